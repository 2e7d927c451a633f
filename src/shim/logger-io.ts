import { Socket } from "node:net";
import { CodedError, notImplemented } from "#pkg/errors.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import type { Child } from "./children.ts";
import type { InheritedEnds } from "./inherited-ends.ts";
import type { IoOptions } from "./open-io.ts";
import { type IoEnd, type ProcessIo, settlesWithin } from "./process-io.ts";
import type { OutputTarget, Stdio } from "./stdio.ts";

const readyTimeoutMs = 30_000;
const terminateTimeoutMs = 12_000;
const SIGTERM = 15;
const SIGKILL = 9;

interface OutputPipes {
  /** Held as well as the logger's: a container must not be killed by a logger that has died. */
  readonly reads: readonly [number, number];
  readonly writes: readonly [number, number];
}

/**
 * The pipes of a logging program that an earlier supervisor has started. It goes on by itself, and
 * ends when it has read everything; nobody here can wait for that.
 */
class ResumedLoggerIo implements ProcessIo {
  readonly consoleSocket = undefined;
  readonly childStdio = undefined;
  readonly #resources: DisposableStack;
  readonly #ends: readonly IoEnd[];
  readonly #onChange: () => void;

  constructor(ends: readonly IoEnd[], resources: DisposableStack, onChange: () => void) {
    this.#ends = ends;
    this.#resources = resources;
    this.#onChange = onChange;
  }

  start(): Promise<void> {
    return Promise.resolve();
  }

  closeStdin(): void {}

  resize(): void {}

  processExited(): void {}

  drain(): Promise<boolean> {
    return Promise.resolve(true);
  }

  ends(): readonly IoEnd[] {
    return this.#resources.disposed ? [] : this.#ends;
  }

  close(): Promise<void> {
    this.#resources.dispose();
    this.#onChange();
    return Promise.resolve();
  }
}

/** Output that goes straight to a logging program (`binary://`); nothing is copied here. */
export class LoggerIo implements ProcessIo {
  readonly consoleSocket = undefined;
  readonly childStdio: readonly [number, number, number];
  readonly #options: IoOptions;
  readonly #logger: Child;
  readonly #childEnds: DisposableStack;
  readonly #resources: DisposableStack;
  readonly #reads: readonly [number, number];
  #closing: Promise<void> | undefined;

  private constructor(
    options: IoOptions,
    parts: {
      logger: Child;
      stdin: number;
      pipes: OutputPipes;
      childEnds: DisposableStack;
      resources: DisposableStack;
    },
  ) {
    this.#options = options;
    this.#logger = parts.logger;
    this.#childEnds = parts.childEnds;
    this.#resources = parts.resources;
    this.#reads = parts.pipes.reads;
    this.childStdio = [parts.stdin, ...parts.pipes.writes];
  }

  static async open(
    stdio: Stdio,
    target: OutputTarget & { kind: "binary" },
    options: IoOptions,
  ): Promise<LoggerIo> {
    if (stdio.terminal) throw notImplemented("a terminal whose output goes to a logging program");
    const { sys } = options;
    using childEnds = new DisposableStack();
    using resources = new DisposableStack();
    const stdin = sys.openat(AT.FDCWD, "/dev/null", O.RDONLY);
    childEnds.defer(() => sys.close(stdin));
    const [out, err] = [0, 1].map(() => {
      const pipe = sys.pipe2(0);
      resources.defer(() => sys.close(pipe.read));
      childEnds.defer(() => sys.close(pipe.write));
      sys.fchown(pipe.write, options.ioUid, options.ioGid);
      return pipe;
    }) as [{ read: number; write: number }, { read: number; write: number }]; // -- two in, two out
    const reads = [out.read, err.read] as const;
    const logger = await startLogger(target, reads, options);
    const pipes = { reads, writes: [out.write, err.write] as const };
    const [held, kept] = [childEnds.move(), resources.move()];
    return new LoggerIo(options, { logger, stdin, pipes, childEnds: held, resources: kept });
  }

  /** For pipes that the daemon has kept: held on, so that the container outlives the logger. */
  static resume(
    inherited: InheritedEnds,
    { sys, onChange }: Pick<IoOptions, "sys" | "onChange">,
  ): ProcessIo {
    const resources = new DisposableStack();
    const ends: IoEnd[] = [];
    for (const role of ["stdout", "stderr"] as const) {
      const fd = inherited.take(role);
      if (fd === undefined) continue;
      resources.defer(() => sys.close(fd));
      ends.push({ role, fd });
    }
    return new ResumedLoggerIo(ends, resources, onChange);
  }

  start(): Promise<void> {
    this.#childEnds.dispose();
    return Promise.resolve();
  }

  closeStdin(): void {}

  resize(): void {}

  processExited(): void {}

  /**
   * The logger ends by itself when it has read everything: all writing ends are gone with the
   * container.
   */
  drain(timeoutMs: number): Promise<boolean> {
    return settlesWithin(this.#logger.exited, timeoutMs);
  }

  ends(): IoEnd[] {
    if (this.#resources.disposed) return [];
    const [stdout, stderr] = this.#reads;
    return [
      { role: "stdout", fd: stdout },
      { role: "stderr", fd: stderr },
    ];
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#childEnds.dispose();
    this.#resources.dispose();
    this.#options.onChange();
    await terminate(this.#logger, this.#options);
  }
}

async function startLogger(
  target: OutputTarget & { kind: "binary" },
  reads: readonly [number, number],
  options: IoOptions,
): Promise<Child> {
  const { sys, children } = options;
  using stack = new DisposableStack();
  const none = sys.openat(AT.FDCWD, "/dev/null", O.RDWR);
  stack.defer(() => sys.close(none));
  const ready = sys.pipe2(0);
  const readySource = new Socket({ fd: ready.read, readable: true, writable: false });
  stack.defer(() => readySource.destroy());
  let logger: Child;
  try {
    logger = children.spawn({
      path: target.path,
      args: target.args,
      cwd: "/",
      env: { CONTAINER_ID: options.containerId, CONTAINER_NAMESPACE: options.namespace },
      fds: [none, none, none, ...reads, ready.write],
    });
  } finally {
    sys.close(ready.write);
  }
  const said = firstByteOrEnd(readySource);
  const isReady = (await settlesWithin(said, readyTimeoutMs)) && (await said);
  if (isReady === "byte" || (isReady === "end" && target.readiness === "close")) return logger;
  await terminate(logger, options);
  throw new CodedError(
    "unknown",
    "logging binary did not call ready (it may have crashed or exited prematurely)",
  );
}

function firstByteOrEnd(source: Socket): Promise<"byte" | "end"> {
  const { promise, resolve } = Promise.withResolvers<"byte" | "end">();
  source.once("data", () => resolve("byte"));
  source.once("error", () => resolve("end"));
  source.once("close", () => resolve("end"));
  return promise;
}

/** Time to write out what it has, then no mercy. */
async function terminate(logger: Child, { sys, logger: log }: IoOptions): Promise<void> {
  let gone = false;
  void logger.exited.then(() => {
    gone = true;
  });
  if (await settlesWithin(logger.exited, 0)) return;
  sys.kill(logger.pid, SIGTERM);
  await settlesWithin(logger.exited, terminateTimeoutMs);
  if (gone) return;
  log.warn("failed to wait for shim logger process to exit, killing", { pid: logger.pid });
  sys.kill(logger.pid, SIGKILL);
  await logger.exited;
}
