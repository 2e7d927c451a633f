import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { ContentReader } from "#core/content/content.ts";
import { anyBytes } from "#core/diff/convert.ts";
import {
  findProgram,
  type ProcessorStep,
  processorEnv,
  type StreamProcessor,
} from "#core/diff/stream-processors.ts";
import type { Any } from "#pkg/any.ts";
import { CodedError, wrap } from "#pkg/errors.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import { fdStream } from "#pkg/sys/fifo.ts";
import type { Reaper } from "#pkg/sys/reaper.ts";
import type { SpawnProcess } from "#pkg/sys/spawn.ts";
import type { ExitStatus, Fd, Syscalls } from "#pkg/sys/syscall.ts";

/** What running programs needs. */
export interface ProcessorHost {
  readonly sys: Pick<Syscalls, "pipe2" | "openat" | "close" | "kill">;
  readonly spawn: SpawnProcess;
  /** The process's one reaper. */
  readonly reaper: Pick<Reaper, "wait">;
  /** The daemon's own, which processors inherit. */
  readonly env: Readonly<Record<string, string>>;
}

export interface ProcessorChainOptions {
  readonly host: ProcessorHost;
  readonly steps: readonly ProcessorStep[];
  /** The blob. Stays the caller's. */
  readonly reader: ContentReader;
  /** By the processors' ids. */
  readonly payloads: Readonly<Record<string, Any>>;
}

interface Running {
  readonly processor: StreamProcessor;
  readonly pid: number;
  readonly stderr: Tail;
  /** Asked for only at the end: until then the number, and the group of that number, is its own. */
  exit: Promise<ExitStatus> | undefined;
  state: "running" | "overdue" | "ended";
}

/** How long a processor may go on after it has closed its output. */
const endTimeoutMs = 10_000;
/** How long a killed one is waited for: what hangs in the kernel is left to it. */
const killTimeoutMs = 5_000;
/** What a process that ended left in the pipe is there at once; a child of it may hold the pipe. */
const drainTimeoutMs = 1_000;
const stderrBytesMax = 4096;
const SIGKILL = 9;
const SIGPIPE = 13;

/**
 * A blob going through programs, each reading what the one before writes; pipes join them, and this
 * process sees only what the last one makes.
 *
 * Nothing is started before `output` is read. Disposing it kills what still runs. The blob was
 * whole only when `output` ended without an error: then every program had ended, with success.
 */
export class ProcessorChain implements AsyncDisposable {
  readonly #options: ProcessorChainOptions;
  readonly #running: Running[] = [];
  readonly #streams: Socket[] = [];
  readonly #over = new AbortController();
  #feeding: Promise<void> = Promise.resolve();
  #readFailure: { readonly reason: unknown } | undefined;

  constructor(options: ProcessorChainOptions) {
    this.#options = options;
  }

  /** Once. Throws what the first processor that failed wrote to its standard error. */
  async *output(): AsyncGenerator<Uint8Array, void, undefined> {
    yield* (await this.#start()) as AsyncIterable<Buffer>; // -- no encoding is set
    const statuses: ExitStatus[] = [];
    for (const running of this.#running) statuses.push(await this.#exitOf(running));
    // -- passed on as the store threw it
    if (this.#readFailure) throw this.#readFailure.reason;
    const failed = this.#running.filter((_, i) => statuses[i]?.code !== 0);
    // Who writes to one that ended early is no culprit.
    const culprit =
      failed.find((each) => statuses[this.#running.indexOf(each)]?.signal !== SIGPIPE) ?? failed[0];
    if (culprit) throw await failureOf(culprit, statuses[this.#running.indexOf(culprit)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    for (const running of this.#running) this.#kill(running);
    for (const stream of this.#streams) stream.destroy();
    await this.#feeding;
    // -- a reaper that is closed hands out no exits
    const exits = this.#running.map((each) => this.#exitOf(each).catch(() => undefined));
    await withinMs(Promise.all(exits), killTimeoutMs);
  }

  async #start(): Promise<Socket> {
    const { host, steps } = this.#options;
    const paths: string[] = [];
    for (const { processor } of steps) paths.push(await findProgram(processor.path, host.env));
    if (this.#over.signal.aborted) {
      throw new CodedError("canceled", "stream processors are stopped");
    }
    let input = this.#openInput();
    try {
      for (const [i, step] of steps.entries()) {
        const { read, write } = host.sys.pipe2(0);
        try {
          this.#running.push(this.#spawn(step, paths[i] ?? "", { stdin: input, stdout: write }));
        } catch (error) {
          host.sys.close(read);
          throw wrap(`failed to start stream processor ${step.processor.id}`, error);
        } finally {
          host.sys.close(write);
        }
        host.sys.close(input);
        input = read;
      }
    } catch (error) {
      host.sys.close(input);
      throw error;
    }
    return this.#stream(input, "read");
  }

  /** The file itself where there is one; else a pipe that is filled from the store. */
  #openInput(): Fd {
    const { host, reader } = this.#options;
    if (reader.path !== undefined) return host.sys.openat(AT.FDCWD, reader.path, O.RDONLY);
    const { read, write } = host.sys.pipe2(0);
    const sink = this.#stream(write, "write");
    // One that has enough before the end is judged by how it ends: only reading can fail.
    this.#feeding = pipeline(Readable.from(this.#blob()), sink, {
      signal: this.#over.signal,
    }).catch(() => undefined);
    return read;
  }

  async *#blob(): AsyncGenerator<Uint8Array, void, undefined> {
    const chunks = this.#options.reader.stream()[Symbol.asyncIterator]();
    try {
      for (let next = await this.#read(chunks); next; next = await this.#read(chunks)) yield next;
    } finally {
      await chunks.return?.();
    }
  }

  async #read(chunks: AsyncIterator<Uint8Array>): Promise<Uint8Array | undefined> {
    try {
      const next = await chunks.next();
      return next.done === true ? undefined : next.value;
    } catch (reason) {
      // Kept before the pipe is closed: the program will take that for the end of the blob.
      this.#readFailure = { reason };
      throw reason;
    }
  }

  #spawn(
    { processor, mediaType }: ProcessorStep,
    path: string,
    { stdin, stdout }: { stdin: Fd; stdout: Fd },
  ): Running {
    const { host, payloads } = this.#options;
    using childEnds = new DisposableStack();
    const childEnd = (fd: Fd): Fd => childEnds.adopt(fd, (it) => host.sys.close(it));
    const err = host.sys.pipe2(0);
    const fds = [stdin, stdout, childEnd(err.write)];
    const stderr = new Tail(this.#stream(err.read, "read"));
    const payload = Object.hasOwn(payloads, processor.id) ? payloads[processor.id] : undefined;
    if (payload) {
      const pipe = host.sys.pipe2(0);
      fds.push(childEnd(pipe.read));
      this.#stream(pipe.write, "write").end(anyBytes(payload));
    }
    const soft = Number(host.env["CONTAINERD_NOFILE_SOFT"]);
    const { pid } = host.spawn({
      path,
      argv: [processor.path, ...processor.args],
      env: processorEnv(host.env, processor, mediaType),
      fds,
      setpgid: true,
      ...(Number.isSafeInteger(soft) && soft > 0 && { nofileSoft: soft }),
    });
    return { processor, pid, stderr, exit: undefined, state: "running" };
  }

  #stream(fd: Fd, direction: "read" | "write"): Socket {
    const stream = fdStream(fd, direction);
    this.#streams.push(stream);
    return stream;
  }

  #exitOf(running: Running): Promise<ExitStatus> {
    running.exit ??= this.#wait(running);
    return running.exit;
  }

  async #wait(running: Running): Promise<ExitStatus> {
    const timer = setTimeout(() => {
      this.#kill(running);
      running.state = "overdue";
    }, endTimeoutMs);
    try {
      const status = await this.#options.host.reaper.wait(running.pid);
      if (running.state === "running") running.state = "ended";
      return status;
    } finally {
      clearTimeout(timer);
    }
  }

  /** With all that it started. */
  #kill({ pid, state }: Running): void {
    if (state !== "running") return;
    try {
      this.#options.host.sys.kill(-pid, SIGKILL);
    } catch (error) {
      if (!isSyscallError(error, "ESRCH")) throw error;
    }
  }
}

/** The last bytes of a stream. */
class Tail {
  readonly #complete: Promise<void>;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(stream: Socket) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#complete = promise;
    stream.on("data", (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]).subarray(-stderrBytesMax);
    });
    stream.once("close", resolve);
  }

  async text(): Promise<string> {
    await withinMs(this.#complete, drainTimeoutMs);
    return this.#bytes.toString("utf8").trim();
  }
}

async function failureOf(
  { processor, stderr, state }: Running,
  status: ExitStatus | undefined,
): Promise<CodedError> {
  const text = await stderr.text();
  const how =
    state === "overdue"
      ? `did not end within ${endTimeoutMs} ms of its output`
      : status?.signal === undefined
        ? `exit status ${status?.code}`
        : `signal ${status.signal}`;
  const what = `stream processor ${processor.id}: ${how}`;
  return new CodedError("unknown", text === "" ? what : `${what}: ${text}`);
}

async function withinMs(work: Promise<unknown>, ms: number): Promise<void> {
  const over = new AbortController();
  // -- the only way for it to fail is the abort
  const late = delay(ms, undefined, { signal: over.signal }).catch(() => undefined);
  await Promise.race([work, late]);
  over.abort();
}
