import { AT, O } from "#pkg/sys/constants.ts";
import type { InheritedEnds } from "./inherited-ends.ts";
import { LoggerProgram } from "./logger-program.ts";
import type { IoOptions } from "./open-io.ts";
import { type IoEnd, type ProcessIo, settlesWithin } from "./process-io.ts";
import type { OutputTarget } from "./stdio.ts";

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
  readonly #logger: LoggerProgram;
  readonly #childEnds: DisposableStack;
  readonly #resources: DisposableStack;
  readonly #reads: readonly [number, number];
  #closing: Promise<void> | undefined;

  private constructor(
    options: IoOptions,
    parts: {
      logger: LoggerProgram;
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
    target: OutputTarget & { kind: "binary" },
    options: IoOptions,
  ): Promise<LoggerIo> {
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
    const logger = await LoggerProgram.start(target, reads, options);
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
    await this.#logger.terminate();
  }
}
