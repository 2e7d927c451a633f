import { Socket } from "node:net";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import type { Child } from "./children.ts";
import type { IoOptions } from "./open-io.ts";
import { settlesWithin } from "./process-io.ts";
import type { OutputTarget } from "./stdio.ts";

const readyTimeoutMs = 30_000;
const terminateTimeoutMs = 12_000;
const SIGTERM = 15;
const SIGKILL = 9;

type LoggerOptions = Pick<IoOptions, "sys" | "logger" | "children" | "containerId" | "namespace">;

/**
 * A program of the client's that takes a container's output (`binary://`): descriptors 3 and 4 are
 * stdout and stderr, and closing 5 says that it is ready. It ends by itself when it has read both
 * to their end.
 */
export class LoggerProgram {
  readonly #child: Child;
  readonly #options: LoggerOptions;

  private constructor(child: Child, options: LoggerOptions) {
    this.#child = child;
    this.#options = options;
  }

  /** Resolves when the program says that it is ready. Leaves `reads` to the caller. */
  static async start(
    target: OutputTarget & { kind: "binary" },
    reads: readonly [stdout: number, stderr: number],
    options: LoggerOptions,
  ): Promise<LoggerProgram> {
    const { sys } = options;
    using stack = new DisposableStack();
    const none = sys.openat(AT.FDCWD, "/dev/null", O.RDWR);
    stack.defer(() => sys.close(none));
    const ready = sys.pipe2(0);
    const readySource = new Socket({ fd: ready.read, readable: true, writable: false });
    stack.defer(() => readySource.destroy());
    let program: LoggerProgram;
    try {
      const fds = [none, none, none, ...reads, ready.write];
      program = new LoggerProgram(spawn(target, fds, options), options);
    } finally {
      sys.close(ready.write);
    }
    const said = firstByteOrEnd(readySource);
    const isReady = (await settlesWithin(said, readyTimeoutMs)) && (await said);
    if (isReady === "byte" || (isReady === "end" && target.readiness === "close")) return program;
    await program.terminate();
    throw new CodedError(
      "unknown",
      "logging binary did not call ready (it may have crashed or exited prematurely)",
    );
  }

  get exited(): Promise<unknown> {
    return this.#child.exited;
  }

  /** Time to write out what it has, then no mercy. Resolves when it has gone. */
  async terminate(): Promise<void> {
    const { sys, logger } = this.#options;
    const { pid, exited } = this.#child;
    if (await settlesWithin(exited, 0)) return;
    sys.kill(pid, SIGTERM);
    if (await settlesWithin(exited, terminateTimeoutMs)) return;
    logger.warn("failed to wait for shim logger process to exit, killing", { pid });
    sys.kill(pid, SIGKILL);
    await exited;
  }
}

function spawn(
  target: OutputTarget & { kind: "binary" },
  fds: readonly number[],
  { children, containerId, namespace }: LoggerOptions,
): Child {
  try {
    return children.spawn({
      path: target.path,
      args: target.args,
      cwd: "/",
      env: { CONTAINER_ID: containerId, CONTAINER_NAMESPACE: namespace },
      fds,
    });
  } catch (error) {
    const why = messageOf(error).replace(/^.*: /, "");
    const text = `failed to start binary process: fork/exec ${target.path}: ${why}`;
    throw new CodedError("unknown", text, { cause: error });
  }
}

function firstByteOrEnd(source: Socket): Promise<"byte" | "end"> {
  const { promise, resolve } = Promise.withResolvers<"byte" | "end">();
  source.once("data", () => resolve("byte"));
  source.once("error", () => resolve("end"));
  source.once("close", () => resolve("end"));
  return promise;
}
