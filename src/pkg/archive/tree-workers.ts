import { open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import {
  type FromJob,
  type FromWorker,
  type ToWorker,
  type TreeJobKind,
  type TreeJobs,
} from "#pkg/archive/tree-job.ts";
import type { GrowingFile } from "#pkg/archive/growing-file.ts";
import { Drain, Feeder, type JobStreams } from "#pkg/archive/tree-streams.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, messageOf, resourceExhausted } from "#pkg/errors.ts";
import { O } from "#pkg/sys/constants.ts";
import { returnFreedMemory } from "#pkg/sys/allocator.ts";

export interface TreeWorkersOptions {
  readonly workersMax?: number;
  /** An idle worker ends after so long. */
  readonly idleMs?: number;
}

/** More than the layers that are unpacked at once, each of which may be waiting for a slow registry. */
const workersMaxDefault = 16;
const queueMax = 10_000;
const idleMsDefault = 10_000;
/**
 * A worker costs more to start than most jobs take: one that can wait does so for this long, once all that are started
 * are at work, before there is another.
 */
const patienceMs = 30;
/** What still hangs in the kernel then is left to it. */
const closeGraceMs = 5_000;
/**
 * How long a cancelled job may take to stop before its thread is ended, which leaves open what descriptors it has: none
 * for one that hangs in the kernel if it takes long, and has none.
 */
const cancelGraceMs: Readonly<Record<TreeJobKind, number>> = {
  apply: 10_000,
  adopt: 10_000,
  compare: 10_000,
  copy: 10_000,
  remove: 10_000,
  usage: 1000,
  sync: 0,
};

/** `long`: worth a worker of its own at once, wherever there may be one more. */
export type Pace = "brief" | "long";

/**
 * Threads that work on directory trees (`TreeJobs`), started when first needed and ended when idle.
 *
 * A job runs to its end, fails, or is cancelled by its context; in each case nothing of it goes on
 * after `run` settled.
 */
export class TreeWorkers implements AsyncDisposable {
  readonly #workersMax: number;
  readonly #idleMs: number;
  readonly #all = new Set<TreeWorker>();
  readonly #idle: TreeWorker[] = [];
  readonly #queue: PromiseWithResolvers<TreeWorker>[] = [];
  #idleTimer: NodeJS.Timeout | undefined;
  #growTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: TreeWorkersOptions = {}) {
    this.#workersMax = options.workersMax ?? workersMaxDefault;
    this.#idleMs = options.idleMs ?? idleMsDefault;
  }

  /** Throws what the job threw, with its code; `resource-exhausted` when too many wait already. */
  async run<K extends TreeJobKind>(
    ctx: Context,
    job: TreeJobs[K]["job"] & { readonly kind: K },
    streams: JobStreams = {},
    pace: Pace = "brief",
  ): Promise<TreeJobs[K]["result"]> {
    const worker = await this.#acquire(ctx, pace);
    try {
      // -- the worker answers each kind of job with its result
      return (await worker.run(ctx, job, streams)) as TreeJobs[K]["result"];
    } finally {
      this.#release(worker);
    }
  }

  /** Writes back everything of the file system that holds the directory. May hang where that does, until cancelled. */
  async sync(ctx: Context, path: string): Promise<void> {
    // Opened here: a thread that is ended while it hangs would close nothing.
    await using directory = await open(path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    await this.run(ctx, { kind: "sync", fd: directory.fd });
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idleTimer);
    clearTimeout(this.#growTimer);
    for (const { reject } of this.#queue.splice(0)) reject(closedError());
    const ended = Promise.all([...this.#all].map((worker) => worker.end()));
    await Promise.race([ended, delay(closeGraceMs, undefined, { ref: false })]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #acquire(ctx: Context, pace: Pace): Promise<TreeWorker> {
    ctx.throwIfEnded();
    if (this.#closed) throw closedError();
    const idle = this.#idle.pop();
    if (idle) return idle;
    const mayStart = this.#all.size < this.#workersMax;
    if (mayStart && (pace === "long" || this.#all.size === 0)) return this.#start();
    if (this.#queue.length >= queueMax) throw resourceExhausted(`${queueMax} jobs on trees wait`);
    return this.#wait(ctx);
  }

  async #wait(ctx: Context): Promise<TreeWorker> {
    const waiting = Promise.withResolvers<TreeWorker>();
    this.#queue.push(waiting);
    this.#growSoon();
    const onAbort = (): void => {
      const at = this.#queue.indexOf(waiting);
      // Not there any more: a worker is on its way, whose job then ends at once.
      if (at < 0) return;
      this.#queue.splice(at, 1);
      waiting.reject(ctx.signal.reason);
    };
    ctx.signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await waiting.promise;
    } finally {
      ctx.signal.removeEventListener("abort", onAbort);
    }
  }

  /** One more worker, if any job still waits then; none while one is on its way, which may serve all that wait. */
  #growSoon(): void {
    if (this.#growTimer || this.#closed || this.#queue.length === 0) return;
    if (this.#all.size >= this.#workersMax) return;
    this.#growTimer = setTimeout(() => {
      this.#growTimer = undefined;
      const isOneComing = this.#all.values().some((worker) => !worker.isReady);
      if (!isOneComing) this.#queue.shift()?.resolve(this.#start());
      this.#growSoon();
    }, patienceMs);
  }

  #start(): TreeWorker {
    const worker = new TreeWorker((ended) => {
      this.#all.delete(ended);
      const at = this.#idle.indexOf(ended);
      if (at >= 0) this.#idle.splice(at, 1);
    });
    this.#all.add(worker);
    return worker;
  }

  #release(worker: TreeWorker): void {
    const next = this.#queue.shift();
    if (next) {
      next.resolve(worker.isAlive ? worker : this.#start());
      return;
    }
    if (!worker.isAlive) return;
    this.#idle.push(worker);
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => void this.#endIdle(), this.#idleMs);
    this.#idleTimer.unref();
  }

  async #endIdle(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((worker) => worker.end()));
    // What they did, others fetched and stored: that has ended, too.
    if (this.#all.size === 0) returnFreedMemory();
  }
}

function closedError(): CodedError {
  return new CodedError("unavailable", "tree workers are closed");
}

/** What a job makes of short-lived objects is little; with V8's default a worker would keep 48 MB for it. */
const youngGenerationMb = 4;

/** To a worker that may be waiting for more of a file. */
const giveUp: ToWorker = { type: "growth", growth: { heldBytes: 0, end: "broken" } };

/** One thread; jobs one after the other. */
class TreeWorker {
  readonly #worker: Worker;
  readonly #onEnd: (worker: TreeWorker) => void;
  #onMessage: ((message: FromJob) => void) | undefined;
  #alive = true;
  #ready = false;

  constructor(onEnd: (worker: TreeWorker) => void) {
    this.#onEnd = onEnd;
    this.#worker = new Worker(new URL("./tree-worker.ts", import.meta.url), {
      name: "tree-worker",
      resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMb },
      // Descriptors are opened and closed through pkg/sys too, of which Node's book-keeping knows
      // nothing.
      trackUnmanagedFds: false,
    });
    this.#worker.unref();
    this.#worker.on("message", (message: FromWorker) => {
      if (message.type === "ready") this.#ready = true;
      else this.#onMessage?.(message);
    });
    this.#worker.on("error", (error) => this.#fail(`tree worker failed: ${messageOf(error)}`));
    this.#worker.on("exit", () => this.#fail("tree worker ended"));
  }

  get isAlive(): boolean {
    return this.#alive;
  }

  /** Whether it has come so far that it can take jobs. */
  get isReady(): boolean {
    return this.#ready;
  }

  async run(
    ctx: Context,
    job: TreeJobs[TreeJobKind]["job"],
    { input, growing, output }: JobStreams,
  ): Promise<unknown> {
    ctx.throwIfEnded();
    // Between its being given out and this: nobody would answer.
    if (!this.#alive) throw new CodedError("unavailable", "tree worker ended");
    const cancel = new SharedArrayBuffer(4);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const feeder = new Feeder((message, transfer) => this.#worker.postMessage(message, transfer));
    let grace: NodeJS.Timeout | undefined;
    const stop = (): void => {
      Atomics.store(new Int32Array(cancel), 0, 1);
      feeder.stop();
      if (growing) this.#worker.postMessage(giveUp);
      grace = setTimeout(() => void this.end(), cancelGraceMs[job.kind]);
    };
    const drain = new Drain(output, {
      credit: () => this.#worker.postMessage({ type: "output-credit" } satisfies ToWorker),
      failed: () => Atomics.store(new Int32Array(cancel), 0, 1),
    });
    this.#onMessage = (message) => {
      if (message.type === "credit") feeder.credit();
      else if (message.type === "output") drain.take(message.chunk);
      else if (message.type === "done") resolve(message.result);
      else reject(new CodedError(message.code, message.message));
    };
    ctx.signal.addEventListener("abort", stop, { once: true });
    this.#worker.ref();
    try {
      this.#worker.postMessage({ type: "job", job, cancel } satisfies ToWorker);
      using _growth = growing?.watch(() => this.#tellGrowth(growing, cancel));
      const feeding = input === undefined ? Promise.resolve() : this.#feed(feeder, input, cancel);
      // Both, whatever becomes of either: nothing may go on after this.
      const done = promise.finally(() => feeder.stop());
      const [answered, fed] = await Promise.allSettled([done, feeding]);
      await drain.finish();
      if (Atomics.load(new Int32Array(cancel), 0) !== 0) ctx.throwIfEnded();
      if (fed.status === "rejected") throw fed.reason;
      if (growing?.growth.end === "broken")
        throw new CodedError("aborted", "the rest of the file never came");
      if (answered.status === "rejected") throw answered.reason;
      return answered.value;
    } finally {
      this.#worker.unref();
      clearTimeout(grace);
      ctx.signal.removeEventListener("abort", stop);
      this.#onMessage = undefined;
    }
  }

  async end(): Promise<void> {
    // First: a thread that hangs in the kernel ends only when the kernel lets go.
    this.#fail("tree worker ended");
    await this.#worker.terminate();
  }

  async #feed(
    feeder: Feeder,
    input: AsyncIterable<Uint8Array>,
    cancel: SharedArrayBuffer,
  ): Promise<void> {
    try {
      await feeder.feed(input);
    } catch (error) {
      // The source failed: the worker must not take what it has for the whole.
      Atomics.store(new Int32Array(cancel), 0, 1);
      feeder.end();
      throw error;
    }
  }

  #tellGrowth({ growth }: GrowingFile, cancel: SharedArrayBuffer): void {
    // Before it is told: the worker must not take what there is for the whole.
    if (growth.end === "broken") Atomics.store(new Int32Array(cancel), 0, 1);
    this.#worker.postMessage({ type: "growth", growth } satisfies ToWorker);
  }

  #fail(message: string): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#onEnd(this);
    this.#onMessage?.({ type: "failed", code: "internal", message });
  }
}
