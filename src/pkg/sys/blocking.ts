import { Worker } from "node:worker_threads";

import type { Context } from "#pkg/context.ts";
import { CodedError, resourceExhausted, unavailable, wrap } from "#pkg/errors.ts";
import { type BlockingName, type BlockingReply, readReply } from "#pkg/sys/blocking-message.ts";
import type { Fd, Syscalls } from "#pkg/sys/syscall.ts";

/** A worker as the pool needs it; `Worker` of `node:worker_threads` is one. */
export interface BlockingThread {
  postMessage(message: { name: BlockingName; args: readonly unknown[] }): void;
  on(event: "message", listener: (reply: BlockingReply) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "exit", listener: (code: number) => void): unknown;
  ref(): void;
  unref(): void;
  terminate(): Promise<number>;
}

export interface BlockingPoolOptions {
  readonly sys: Pick<Syscalls, "dup" | "close">;
  /** Threads at work at one time. Default 4. */
  readonly workersMax?: number;
  /** Calls given up that have not come back, each holding a thread of its own. Default 4. */
  readonly stuckMax?: number;
  /** Calls waiting for a thread. Default 1024. */
  readonly queueMax?: number;
  /** For calls whose context sets no earlier end. Default 30 s. */
  readonly timeoutMs?: number;
  /** A thread without work ends after this, since each costs megabytes. Default 10 s. */
  readonly idleMs?: number;
  readonly startThread?: () => BlockingThread;
}

interface Job {
  readonly name: BlockingName;
  readonly args: readonly unknown[];
  /** A duplicate made for this call, closed when the kernel has let go of it. */
  readonly ownFd: Fd | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

interface Slot {
  readonly thread: BlockingThread;
  job: Job | undefined;
  /** Its caller has given up. */
  stuck: boolean;
  idleTimer: NodeJS.Timeout | undefined;
}

function startWorker(): BlockingThread {
  return new Worker(new URL("./blocking-worker.ts", import.meta.url), {
    name: "blocking-syscalls",
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4, stackSizeMb: 1 },
  });
}

/**
 * Makes kernel calls that may hang (dead network file systems) on threads of its own, never on
 * libuv's pool, which all of `fs.promises` shares.
 *
 * A call that outlives its deadline keeps its thread, since nothing frees it from the kernel, and
 * another takes its place; with `stuckMax` of those every further call is refused with
 * `unavailable`, until one comes back.
 *
 * Node joins its threads at the end, so a process with a stuck call ends neither by itself nor by
 * `process.exit`: when `stuckCalls` is not empty, the last step of its main is SIGKILL to itself.
 */
export class BlockingPool implements AsyncDisposable {
  readonly #sys: BlockingPoolOptions["sys"];
  readonly #workersMax: number;
  readonly #stuckMax: number;
  readonly #queueMax: number;
  readonly #timeoutMs: number;
  readonly #idleMs: number;
  readonly #startThread: () => BlockingThread;
  readonly #slots = new Set<Slot>();
  readonly #queue: Job[] = [];
  #closed = false;

  constructor(options: BlockingPoolOptions) {
    this.#sys = options.sys;
    this.#workersMax = options.workersMax ?? 4;
    this.#stuckMax = options.stuckMax ?? 4;
    this.#queueMax = options.queueMax ?? 1024;
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#idleMs = options.idleMs ?? 10_000;
    this.#startThread = options.startThread ?? startWorker;
  }

  /**
   * Makes one call of `Syscalls` and gives its result or its `SyscallError`.
   *
   * `deadline-exceeded` or `canceled`: the wait is over, the call may still take effect, now or
   * later. `resource-exhausted`: too many calls wait already. `unavailable`: too many are stuck, or
   * the pool is closed. A descriptor is duplicated for the call, so the caller may close its own at
   * any time; one that is opened for a caller who has given up is closed.
   */
  async run<K extends BlockingName>(
    ctx: Context,
    name: K,
    ...args: Parameters<Syscalls[K]>
  ): Promise<ReturnType<Syscalls[K]>> {
    const bounded = ctx.withTimeout(this.#timeoutMs);
    bounded.throwIfEnded();
    this.#refuseIfFull(name);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const job: Job = { ...this.#withOwnFd(name, args), resolve, reject };
    const onAbort = (): void => this.#giveUp(job, bounded);
    bounded.signal.addEventListener("abort", onAbort, { once: true });
    try {
      this.#queue.push(job);
      this.#dispatch();
      // -- the worker made the call that has this result
      return (await promise) as ReturnType<Syscalls[K]>;
    } finally {
      bounded.signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * The calls given up that the kernel has not come back from, for logs and for the way a process
   * must end.
   */
  stuckCalls(): readonly { name: BlockingName; args: readonly unknown[] }[] {
    return [...this.#slots].flatMap(({ stuck, job }) =>
      stuck && job !== undefined ? [{ name: job.name, args: job.args }] : [],
    );
  }

  /** Refuses what waits and what runs. Resolves when every thread has ended but the stuck ones. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#queue.splice(0)) this.#abandon(job, closedError());
    const ending: Promise<number>[] = [];
    for (const slot of this.#slots) {
      if (slot.stuck) continue;
      if (slot.job === undefined) ending.push(this.#end(slot));
      else {
        slot.stuck = true;
        slot.thread.unref();
        slot.job.reject(closedError());
      }
    }
    await Promise.all(ending);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #refuseIfFull(name: BlockingName): void {
    if (this.#closed) throw closedError();
    const stuck = this.stuckCalls();
    if (stuck.length >= this.#stuckMax) {
      const which = stuck.map((call) => `${call.name} ${String(call.args[0])}`).join(", ");
      throw unavailable(`${name}: ${stuck.length} calls are stuck in the kernel (${which})`);
    }
    if (this.#queue.length >= this.#queueMax) {
      throw resourceExhausted(`${name}: ${this.#queueMax} calls wait already`);
    }
  }

  #withOwnFd(name: BlockingName, args: readonly unknown[]): Pick<Job, "name" | "args" | "ownFd"> {
    const [fd, ...rest] = args;
    if (typeof fd !== "number" || fd < 0) return { name, args, ownFd: undefined };
    const ownFd = this.#sys.dup(fd);
    return { name, args: [ownFd, ...rest], ownFd };
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const slot = this.#freeSlot();
      if (slot === undefined) return;
      const job = this.#queue.shift();
      if (job === undefined) return;
      slot.job = job;
      clearTimeout(slot.idleTimer);
      slot.thread.ref();
      slot.thread.postMessage({ name: job.name, args: job.args });
    }
  }

  #freeSlot(): Slot | undefined {
    let working = 0;
    for (const slot of this.#slots) {
      if (slot.stuck) continue;
      if (slot.job === undefined) return slot;
      working++;
    }
    return working < this.#workersMax ? this.#newSlot() : undefined;
  }

  #newSlot(): Slot {
    const thread = this.#startThread();
    const slot: Slot = { thread, job: undefined, stuck: false, idleTimer: undefined };
    thread.on("message", (reply) => this.#onReply(slot, reply));
    thread.on("error", (error) => this.#onDeath(slot, error));
    thread.on("exit", (code) => this.#onDeath(slot, new Error(`thread ended with ${code}`)));
    this.#slots.add(slot);
    return slot;
  }

  #onReply(slot: Slot, reply: BlockingReply): void {
    const { job, stuck } = slot;
    slot.job = undefined;
    slot.stuck = false;
    slot.thread.unref();
    if (job?.ownFd !== undefined) this.#sys.close(job.ownFd);
    if (job !== undefined && !stuck) settle(job, reply);
    else if (job?.name === "openat" && reply.ok) this.#sys.close(Number(reply.value));
    this.#dispatch();
    if (slot.job === undefined) this.#rest(slot);
  }

  /** Keeps a free thread for a while, unless there are more than the pool wants or it is closed. */
  #rest(slot: Slot): void {
    const others = [...this.#slots].filter((other) => other !== slot && !other.stuck);
    if (this.#closed || others.length >= this.#workersMax) {
      void this.#end(slot);
      return;
    }
    slot.idleTimer = setTimeout(() => void this.#end(slot), this.#idleMs);
    slot.idleTimer.unref();
  }

  #end(slot: Slot): Promise<number> {
    clearTimeout(slot.idleTimer);
    this.#slots.delete(slot);
    return slot.thread.terminate();
  }

  #onDeath(slot: Slot, error: Error): void {
    if (!this.#slots.delete(slot)) return;
    clearTimeout(slot.idleTimer);
    if (slot.job !== undefined) this.#abandon(slot.job, wrap(slot.job.name, error));
    this.#dispatch();
  }

  #giveUp(job: Job, ctx: Context): void {
    const queued = this.#queue.indexOf(job);
    const slot = [...this.#slots].find((other) => other.job === job);
    const reason = endOf(ctx, job.name);
    if (queued >= 0) {
      this.#queue.splice(queued, 1);
      this.#abandon(job, reason);
      return;
    }
    if (slot !== undefined) {
      slot.stuck = true;
      slot.thread.unref();
    }
    job.reject(reason);
    this.#dispatch();
  }

  /** For calls that no thread is in. */
  #abandon(job: Job, reason: unknown): void {
    if (job.ownFd !== undefined) this.#sys.close(job.ownFd);
    job.reject(reason);
  }
}

function settle(job: Job, reply: BlockingReply): void {
  try {
    job.resolve(readReply(reply));
  } catch (error) {
    job.reject(error);
  }
}

function closedError(): CodedError {
  return unavailable("pool for blocking calls is closed");
}

function endOf(ctx: Context, name: BlockingName): unknown {
  try {
    ctx.throwIfEnded();
  } catch (error) {
    return wrap(name, error);
  }
  return new CodedError("canceled", `${name}: context canceled`);
}
