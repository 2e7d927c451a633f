import * as v from "valibot";
import type { Credentials } from "#core/remotes/credentials.ts";
import { findProgram, type ProgramRunner } from "#core/runtime/program.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";

export interface CredentialHelperOptions {
  readonly programs: Pick<ProgramRunner, "run">;
  /** What helpers are run with; `PATH` says where they are. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: 30 s. A helper may ask a person, but not for ever. */
  readonly timeoutMs?: number | undefined;
}

const answerSchema = v.object({ Username: v.string(), Secret: v.string() });
const nameForm = /^[a-zA-Z0-9][a-zA-Z0-9._-]*$/;
const defaultTimeoutMs = 30_000;

/**
 * Asks `docker-credential-NAME` for a server's credentials
 * (https://github.com/docker/docker-credential-helpers).
 *
 * Undefined where it knows none. Throws `unavailable` naming the helper when it fails; nothing that
 * it printed on success is ever part of an error.
 */
export async function askCredentialHelper(
  ctx: Context,
  name: string,
  server: string,
  options: CredentialHelperOptions,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  const path = nameForm.test(name)
    ? await findProgram(program, options.env["PATH"] ?? "")
    : undefined;
  if (path === undefined) {
    throw new CodedError("unavailable", `credential helper ${JSON.stringify(program)} not in PATH`);
  }
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  const bounded = ctx.withTimeout(timeoutMs);
  const { failure, stdout } = await options.programs.run(bounded, {
    path,
    args: ["get"],
    env: options.env,
    cwd: "/",
    stdin: Buffer.from(`${server}\n`),
    stderr: "apart",
  });
  ctx.throwIfEnded();
  if (bounded.signal.aborted) {
    throw new CodedError("unavailable", `${program}: no answer in ${timeoutMs} ms`);
  }
  const text = Buffer.from(stdout).toString("utf8");
  if (failure === "") return parseAnswer(program, text);
  if (/credentials not found/i.test(text)) return undefined;
  // A helper that fails says why on standard output.
  const said = (text.trim().split("\n", 1)[0] ?? "").slice(0, 200);
  throw new CodedError("unavailable", `${program}: ${failure}${said === "" ? "" : `: ${said}`}`);
}

function parseAnswer(program: string, text: string): Credentials {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    document = undefined; // -- the parser's words would quote it
  }
  const parsed = v.safeParse(answerSchema, document);
  if (!parsed.success) {
    throw new CodedError("unavailable", `${program}: the answer is no credentials`);
  }
  const { Username: username, Secret: secret } = parsed.output;
  return username === "<token>" ? { username: "", secret } : { username, secret };
}
