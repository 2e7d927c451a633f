import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { ImageVerifier, Judgement } from "#core/images/image-verifier.ts";
import type { ProgramResult, ProgramRunner } from "#core/runtime/program.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { formatDuration } from "#pkg/duration.ts";
import { CodedError, isErrno, wrap } from "#pkg/errors.ts";
import { descriptorToJson } from "#pkg/image-spec.ts";

export interface BindirVerifierOptions {
  readonly binDir: string;
  /** How many of the programs are asked, by name; below zero: all. */
  readonly verifiersMax: number;
  /** For each program. */
  readonly timeoutMs: number;
  readonly programs: Pick<ProgramRunner, "run">;
  readonly env: Readonly<Record<string, string>>;
}

/** Of each of a program's outputs; the rest is read and dropped. */
const outputBytesMax = 32 << 10;
const stdinMediaType = "application/vnd.oci.descriptor.v1+json";

/**
 * Asks every program of a directory, by name, until one objects by an exit code other than 0.
 *
 * `PROGRAM -name REF -digest DIGEST -stdin-media-type TYPE` gets the descriptor on standard input; what it prints is
 * the reason. No directory, or none in it, accepts everything. A program that cannot be run, is killed or takes too
 * long is an error.
 */
export class BindirVerifier implements ImageVerifier {
  readonly #options: BindirVerifierOptions;

  constructor(options: BindirVerifierOptions) {
    this.#options = options;
  }

  async verify(ctx: Context, name: string, target: Descriptor): Promise<Judgement> {
    const { binDir, verifiersMax } = this.#options;
    const programs = await this.#list();
    if (programs === undefined)
      return accepted(`image verifier directory ${binDir} does not exist`);
    if (programs.length === 0) return accepted(`no image verifier binaries found in ${binDir}`);
    const asked = verifiersMax < 0 ? programs : programs.slice(0, verifiersMax);
    const reasons: string[] = [];
    for (const program of asked) {
      const { exitCode, reason } = await this.#ask(ctx, program, { name, target });
      if (exitCode !== 0) {
        const how = `verifier ${program} rejected image (exit code ${exitCode})`;
        return { isAccepted: false, reason: `${how}: ${reason}` };
      }
      reasons.push(`${program} => ${reason}`);
    }
    if (asked.length < programs.length) {
      ctx.logger.warn("image verifiers are skipped: there are more than max_verifiers", {
        directory: binDir,
        found: programs.length,
        asked: asked.length,
      });
    }
    return accepted(reasons.join(", "));
  }

  async #list(): Promise<readonly string[] | undefined> {
    try {
      return (await readdir(this.#options.binDir)).toSorted();
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw wrap("failed to list directory contents", error);
    }
  }

  async #ask(
    ctx: Context,
    program: string,
    image: { readonly name: string; readonly target: Descriptor },
  ): Promise<{ readonly exitCode: number; readonly reason: string }> {
    const startedMs = performance.now();
    try {
      return await this.#run(ctx, program, image);
    } catch (error) {
      const took = formatDuration(performance.now() - startedMs);
      throw wrap(`failed to call verifier ${program} (runtime ${took})`, error);
    }
  }

  async #run(
    ctx: Context,
    program: string,
    { name, target }: { readonly name: string; readonly target: Descriptor },
  ): Promise<{ readonly exitCode: number; readonly reason: string }> {
    const { binDir, timeoutMs, programs, env } = this.#options;
    const result = await programs.run(ctx.withTimeout(timeoutMs), {
      path: join(binDir, program),
      args: ["-name", name, "-digest", target.digest, "-stdin-media-type", stdinMediaType],
      env,
      cwd: "/",
      stdin: Buffer.from(`${JSON.stringify(descriptorToJson(target))}\n`),
      stderr: "apart",
    });
    logStderr(ctx, program, result);
    ctx.throwIfEnded();
    if (result.exitCode === undefined) {
      throw new CodedError("unknown", `waiting on command to exit: ${result.failure}`);
    }
    return { exitCode: result.exitCode, reason: reasonOf(result) };
  }
}

function accepted(reason: string): Judgement {
  return { isAccepted: true, reason };
}

function reasonOf({ stdout }: ProgramResult): string {
  const text = Buffer.from(stdout.subarray(0, outputBytesMax)).toString("utf8").trim();
  return stdout.length > outputBytesMax ? `${text}(stdout truncated)` : text;
}

function logStderr(ctx: Context, program: string, { stderr }: ProgramResult): void {
  const logger = ctx.logger.with({ image_verifier: program, stream: "stderr" });
  const text = Buffer.from(stderr.subarray(0, outputBytesMax)).toString("utf8").trimEnd();
  if (text !== "") for (const line of text.split("\n")) logger.debug(line);
  if (stderr.length > outputBytesMax) logger.debug("(previous logs may be truncated)");
}
