import { findProgram, type ProgramRunner } from "#core/runtime/program.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";

/** Runs a program of PATH to its end; `failure` is empty for a success. */
export type RunProgram = (
  ctx: Context,
  name: string,
  args: readonly string[],
) => Promise<{ readonly failure: string; readonly output: string }>;

const outputMax = 4096;

export function mountPrograms(
  programs: Pick<ProgramRunner, "run">,
  env: Readonly<Record<string, string>>,
): RunProgram {
  return async (ctx, name, args) => {
    const path = await findProgram(name, env["PATH"] ?? "");
    if (path === undefined) throw new CodedError("unknown", `${name} is not on PATH`);
    const { failure, stdout } = await programs.run(ctx, {
      path,
      args,
      env,
      cwd: "/",
      stdin: new Uint8Array(),
      stderr: "with-stdout",
    });
    ctx.throwIfEnded();
    return { failure, output: Buffer.from(stdout).toString("utf8").trim().slice(0, outputMax) };
  };
}
