import type { CollectionStats, Collector } from "#core/gc/gc.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, wrap } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";

export interface SchedulerOptions {
  /** Greatest part of time during which collections may keep writers waiting; at most 0.5, 0 for no bound. */
  readonly pauseThreshold: number;
  /** So many deletions bring a collection soon; 0: the first one brings it when none is planned. */
  readonly deletionThreshold: number;
  /** So many mutations make the next planned collection happen; 0: mutations never do. */
  readonly mutationThreshold: number;
  /** Between what asks for a collection and its start. */
  readonly scheduleDelayMs: number;
  /** Before the first collection; 0: there is none until something asks. */
  readonly startupDelayMs: number;
}

/** What is paced. */
export interface Collectable {
  readonly collector: Collector;
  onMutation(listener: (change: { readonly dirty: boolean }) => void): Disposable;
}

export interface Clock {
  nowMs(): number;
  /** Calls once after the time, unless disposed. */
  after(ms: number, call: () => void): Disposable;
}

const pauseThresholdMax = 0.5;
const firstIntervalMs = 1000;
/** A collection counts as at least this long, so that short ones do not follow each other at once. */
const collectionMsMin = 5;
const retryMs = 1000;

/**
 * Paces collections as upstream: the first shortly after the start, then each time enough has changed, so far apart
 * that writers wait at most the given part of the time. Who waits for one gets it as soon as the delay allows.
 */
export class GcScheduler implements Collector, AsyncDisposable {
  readonly options: SchedulerOptions;
  readonly #ctx: Context;
  readonly #target: Collectable;
  readonly #clock: Clock;
  readonly #subscription: Disposable;
  #waiters: PromiseWithResolvers<CollectionStats>[] = [];
  #planned: { readonly atMs: number; readonly timer: Disposable } | undefined;
  #running: Promise<void> | undefined;
  #lastMs: number | undefined;
  #intervalMs = firstIntervalMs;
  #pausedSumMs = 0;
  #collections = 0;
  #triggered = false;
  #deletions = 0;
  #mutations = 0;
  #stopped = false;

  constructor(
    ctx: Context,
    target: Collectable,
    options: SchedulerOptions,
    clock: Clock = systemClock,
  ) {
    this.options = {
      pauseThreshold: Math.min(Math.max(0, options.pauseThreshold), pauseThresholdMax),
      deletionThreshold: options.deletionThreshold,
      mutationThreshold: Math.max(0, options.mutationThreshold),
      scheduleDelayMs: Math.max(0, options.scheduleDelayMs),
      startupDelayMs: Math.max(0, options.startupDelayMs),
    };
    this.#ctx = ctx;
    this.#target = target;
    this.#clock = clock;
    this.#subscription = target.onMutation(({ dirty }) => {
      if (dirty) this.#deletions++;
      this.#mutations++;
      this.#consider();
    });
    if (this.options.startupDelayMs > 0) this.#plan(this.options.startupDelayMs);
  }

  async scheduleAndWait(ctx: Context): Promise<CollectionStats> {
    if (this.#stopped) throw new CodedError("unavailable", "gc scheduler is stopped");
    const waiter = Promise.withResolvers<CollectionStats>();
    // Whoever waits may leave before it is settled.
    waiter.promise.catch(() => {});
    this.#waiters.push(waiter);
    this.#triggered = true;
    this.#consider();
    return settledOrAborted(waiter.promise, ctx);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#subscription[Symbol.dispose]();
    this.#planned?.timer[Symbol.dispose]();
    this.#planned = undefined;
    await this.#running;
    const stopped = new CodedError("unavailable", "gc scheduler is stopped");
    for (const waiter of this.#waiters) waiter.reject(stopped);
    this.#waiters = [];
  }

  /** Plans a collection soon when something asks for it now; while one runs, after it. */
  #consider(): void {
    if (this.#running || this.#stopped) return;
    const { deletionThreshold, mutationThreshold, scheduleDelayMs } = this.options;
    const unplanned =
      this.#planned === undefined &&
      ((deletionThreshold === 0 && this.#deletions > 0) ||
        (mutationThreshold > 0 && this.#mutations >= mutationThreshold));
    const asked =
      this.#triggered ||
      (deletionThreshold > 0 && this.#deletions >= deletionThreshold) ||
      unplanned;
    if (!asked) return;
    const soonMs = this.#clock.nowMs() + scheduleDelayMs;
    if (!this.#planned || this.#planned.atMs > soonMs) this.#plan(scheduleDelayMs);
  }

  #plan(delayMs: number): void {
    this.#planned?.timer[Symbol.dispose]();
    const atMs = this.#clock.nowMs() + delayMs;
    this.#planned = { atMs, timer: this.#clock.after(delayMs, () => this.#due()) };
  }

  #due(): void {
    const plannedMs = this.#planned?.atMs ?? this.#clock.nowMs();
    this.#planned = undefined;
    const { mutationThreshold } = this.options;
    const enough = mutationThreshold > 0 && this.#mutations >= mutationThreshold;
    const first = this.#lastMs === undefined;
    if (!this.#triggered && !first && this.#deletions === 0 && !enough) {
      this.#plan(this.#intervalMs);
      return;
    }
    this.#running = this.#collect(plannedMs).finally(() => {
      this.#running = undefined;
      this.#consider();
    });
  }

  async #collect(plannedMs: number): Promise<void> {
    const waiters = this.#waiters;
    this.#waiters = [];
    // Reset before it starts: what changes while it runs counts for the next.
    const counted = { deletions: this.#deletions, mutations: this.#mutations };
    this.#triggered = false;
    this.#deletions = 0;
    this.#mutations = 0;
    let delayMs: number;
    try {
      const stats = await this.#target.collector.scheduleAndWait(this.#ctx);
      delayMs = this.#nextInterval(stats);
      for (const waiter of waiters) waiter.resolve(stats);
    } catch (error) {
      this.#ctx.logger.error("garbage collection failed", { error });
      this.#deletions += counted.deletions;
      this.#mutations += counted.mutations;
      delayMs =
        this.#lastMs === undefined
          ? this.options.scheduleDelayMs + retryMs
          : plannedMs - this.#lastMs + retryMs;
      for (const waiter of waiters) waiter.reject(wrap("gc failed", error));
    }
    this.#lastMs = this.#clock.nowMs();
    if (!this.#stopped) this.#plan(Math.max(0, delayMs));
  }

  /** Collections of the average length this far apart reach the threshold. */
  #nextInterval(stats: CollectionStats): number {
    this.#pausedSumMs += stats.pausedMs;
    this.#collections++;
    if (this.options.pauseThreshold > 0) {
      const averageMs = Math.max(collectionMsMin, this.#pausedSumMs / this.#collections);
      this.#intervalMs = averageMs / this.options.pauseThreshold - averageMs;
    }
    return this.#intervalMs;
  }
}

const systemClock: Clock = {
  nowMs: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
