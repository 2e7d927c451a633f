import assert from "node:assert";
import { test } from "node:test";
import { setImmediate as settled } from "node:timers/promises";
import type { CollectionStats } from "#core/gc/gc.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { type Clock, GcScheduler, type SchedulerOptions } from "#plugins/gc/scheduler.ts";

const ctx = Context.background();
const defaults: SchedulerOptions = {
  pauseThreshold: 0.02,
  deletionThreshold: 0,
  mutationThreshold: 100,
  scheduleDelayMs: 0,
  startupDelayMs: 100,
};

/** Time stands still until `pass` moves it. */
class FakeClock implements Clock {
  #nowMs = 0;
  #calls: { atMs: number; call: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  after(ms: number, call: () => void): Disposable {
    const entry = { atMs: this.#nowMs + ms, call };
    this.#calls.push(entry);
    return {
      [Symbol.dispose]: () => {
        this.#calls = this.#calls.filter((other) => other !== entry);
      },
    };
  }

  get pending(): number {
    return this.#calls.length;
  }

  async pass(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const next = this.#calls.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (!next || next.atMs > endMs) break;
      this.#calls = this.#calls.filter((other) => other !== next);
      this.#nowMs = next.atMs;
      next.call();
      await settled();
    }
    this.#nowMs = endMs;
    await settled();
  }
}

class Target {
  runs = 0;
  pausedMs = 0;
  failure: Error | undefined;
  gate: Promise<void> = Promise.resolve();
  #listener: ((change: { readonly dirty: boolean }) => void) | undefined;

  readonly collector = {
    scheduleAndWait: async (): Promise<CollectionStats> => {
      this.runs++;
      await this.gate;
      if (this.failure) throw this.failure;
      return { elapsedMs: 1, pausedMs: this.pausedMs };
    },
  };

  onMutation(listener: (change: { readonly dirty: boolean }) => void): Disposable {
    this.#listener = listener;
    return { [Symbol.dispose]: () => (this.#listener = undefined) };
  }

  mutate(count = 1, dirty = false): void {
    for (let i = 0; i < count; i++) this.#listener?.({ dirty });
  }
}

function make(options: Partial<SchedulerOptions> = {}): {
  target: Target;
  clock: FakeClock;
  scheduler: GcScheduler;
} {
  const target = new Target();
  const clock = new FakeClock();
  const scheduler = new GcScheduler(ctx, target, { ...defaults, ...options }, clock);
  return { target, clock, scheduler };
}

test("the first collection comes after the startup delay, asked for or not", async () => {
  const { target, clock } = make();
  await clock.pass(99);
  assert.strictEqual(target.runs, 0);
  await clock.pass(1);
  assert.strictEqual(target.runs, 1);
});

test("startup delay 0: nothing until something asks", async () => {
  const { target, clock } = make({ startupDelayMs: 0 });
  await clock.pass(100_000);
  assert.strictEqual(target.runs, 0);
  target.mutate(99);
  await clock.pass(100_000);
  assert.strictEqual(target.runs, 0);
  target.mutate(1);
  await clock.pass(0);
  assert.strictEqual(target.runs, 1);
});

test("without deletions and with few mutations no collection follows", async () => {
  const { target, clock } = make();
  await clock.pass(100);
  target.mutate(99);
  await clock.pass(1_000_000);
  assert.strictEqual(target.runs, 1);
});

test("a deletion is collected at the next interval, which the pause threshold sets", async () => {
  const { target, clock } = make({ pauseThreshold: 0.1 });
  target.pausedMs = 50;
  await clock.pass(100);
  target.mutate(1, true);
  // 50 ms of 500 are a tenth.
  await clock.pass(449);
  assert.strictEqual(target.runs, 1);
  await clock.pass(1);
  assert.strictEqual(target.runs, 2);
});

test("short collections count as 5 ms", async () => {
  const { target, clock } = make();
  await clock.pass(100);
  target.mutate(1, true);
  await clock.pass(244);
  assert.strictEqual(target.runs, 1);
  await clock.pass(1);
  assert.strictEqual(target.runs, 2);
});

test("enough mutations are collected at the next interval", async () => {
  const { target, clock } = make({ mutationThreshold: 3 });
  await clock.pass(100);
  target.mutate(3);
  await clock.pass(0);
  assert.strictEqual(target.runs, 1);
  await clock.pass(245);
  assert.strictEqual(target.runs, 2);
});

test("the deletion threshold brings a collection after the schedule delay", async () => {
  const { target, clock } = make({ deletionThreshold: 2, scheduleDelayMs: 10 });
  await clock.pass(100);
  target.mutate(1, true);
  await clock.pass(20);
  assert.strictEqual(target.runs, 1);
  target.mutate(1, true);
  await clock.pass(9);
  assert.strictEqual(target.runs, 1);
  await clock.pass(1);
  assert.strictEqual(target.runs, 2);
});

test("the pause threshold is at most a half", () => {
  assert.strictEqual(make({ pauseThreshold: 0.9 }).scheduler.options.pauseThreshold, 0.5);
  assert.strictEqual(make({ pauseThreshold: -1 }).scheduler.options.pauseThreshold, 0);
});

test("scheduleAndWait() collects at once, and several who wait share one", async () => {
  const { target, clock, scheduler } = make();
  const waits = [scheduler.scheduleAndWait(ctx), scheduler.scheduleAndWait(ctx)];
  await clock.pass(0);
  const stats = await Promise.all(waits);
  assert.strictEqual(target.runs, 1);
  assert.strictEqual(stats[0], stats[1]);
});

test("scheduleAndWait() while one runs gets another that starts after", async () => {
  const { target, clock, scheduler } = make();
  const gate = Promise.withResolvers<void>();
  target.gate = gate.promise;
  const first = scheduler.scheduleAndWait(ctx);
  await clock.pass(0);
  const second = scheduler.scheduleAndWait(ctx);
  await clock.pass(1000);
  assert.strictEqual(target.runs, 1);
  gate.resolve();
  await first;
  await clock.pass(0);
  await second;
  assert.strictEqual(target.runs, 2);
});

test("mutations during a collection count for the next", async () => {
  const { target, clock } = make();
  const gate = Promise.withResolvers<void>();
  target.gate = gate.promise;
  await clock.pass(100);
  target.mutate(1, true);
  gate.resolve();
  await clock.pass(0);
  await clock.pass(245);
  assert.strictEqual(target.runs, 2);
});

test("a failed collection reaches who waits, and is tried again", async () => {
  const { target, clock, scheduler } = make();
  target.failure = new Error("disk on fire");
  const wait = scheduler.scheduleAndWait(ctx);
  const rejected = assert.rejects(wait, /gc failed: disk on fire/);
  await clock.pass(0);
  await rejected;
  target.failure = undefined;
  target.mutate(1, true);
  await clock.pass(2000);
  assert.strictEqual(target.runs, 2);
});

test("who waits can leave", async () => {
  const { scheduler } = make();
  const leaving = new AbortController();
  const wait = scheduler.scheduleAndWait(ctx.withSignal(leaving.signal));
  leaving.abort();
  await assert.rejects(wait, (error) => codeOf(error) === "canceled");
});

test("stopping leaves no timer and tells who waits", async () => {
  const { clock, scheduler } = make({ scheduleDelayMs: 50 });
  const wait = assert.rejects(scheduler.scheduleAndWait(ctx), /gc scheduler is stopped/);
  await scheduler[Symbol.asyncDispose]();
  await wait;
  assert.strictEqual(clock.pending, 0);
  await assert.rejects(scheduler.scheduleAndWait(ctx), /gc scheduler is stopped/);
});
