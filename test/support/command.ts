import { spawn } from "node:child_process";
import assert from "node:assert/strict";

export interface Output {
  /** 128 + n for a process that signal n ended, as a shell says it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: string | Uint8Array;
  /** A command that has not ended by then is killed, and the promise rejects. */
  readonly timeoutMs?: number;
  /** Kills the command when it aborts, and the promise rejects. */
  readonly signal?: AbortSignal;
  /** Its output goes where this process's own goes, and is not returned. */
  readonly passOutput?: boolean;
}

const signalNumbers: Readonly<Record<string, number>> = { SIGKILL: 9, SIGTERM: 15, SIGPIPE: 13 };

/** Runs a command to its end. Rejects when it cannot be started or takes too long, never for an exit code. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Output> {
  const [file, ...args] = argv;
  assert.ok(file !== undefined, "run: empty command");
  const { promise, resolve, reject } = Promise.withResolvers<Output>();
  const out = options.passOutput ? "inherit" : "pipe";
  const child = spawn(file, args, {
    stdio: ["pipe", out, out],
    ...(options.env && { env: options.env }),
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    ...(options.signal && { signal: options.signal, killSignal: "SIGKILL" as const }),
  });
  const output = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  // A command that ends without reading its input is not at fault.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.stdin ?? "");
  const timeoutMs = options.timeoutMs ?? 60_000;
  const timer = setTimeout(() => {
    child.kill("SIGKILL");
    reject(
      new Error(
        `${argv.join(" ")}: no end after ${timeoutMs} ms\n${output.stdout}${output.stderr}`,
      ),
    );
  }, timeoutMs);
  child.once("error", reject);
  child.once("close", (code, signal) => {
    resolve({ code: code ?? 128 + (signalNumbers[signal ?? ""] ?? 0), ...output });
  });
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a command that must succeed, and returns what it printed. */
export async function runOk(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const output = await run(argv, options);
  assert.equal(
    output.code,
    0,
    `${argv.join(" ")}: exit ${output.code}\n${output.stdout}${output.stderr}`,
  );
  return output.stdout;
}
