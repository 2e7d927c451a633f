import assert from "node:assert/strict";
import { test } from "node:test";

import { hasCode } from "#pkg/errors.ts";
import { isSyscallError, SyscallError } from "#pkg/sys/errno.ts";
import { FakeSyscalls } from "#pkg/sys/fake.ts";
import { Reaper, type ReaperOptions } from "#pkg/sys/reaper.ts";
import type { ExitStatus } from "#pkg/sys/syscall.ts";

/** The children of a pretended process: running, or ended and not collected yet. */
class Children {
  readonly fake = new FakeSyscalls();
  readonly alive = new Set<number>();
  /** Processes that run, but under another parent. */
  readonly strangers = new Set<number>();
  readonly zombies = new Map<number, ExitStatus>();
  #listener: (() => void) | undefined;
  nowMs = 0;

  constructor() {
    this.fake.on("waitpid", (pid) => {
      const [first] = this.zombies.keys();
      const target = pid === -1 ? first : pid;
      const status = target === undefined ? undefined : this.zombies.get(target);
      if (target !== undefined && status !== undefined) {
        this.zombies.delete(target);
        return { pid: target, status };
      }
      const some = pid === -1 ? this.alive.size > 0 : this.alive.has(pid);
      if (some) return undefined;
      throw new SyscallError("ECHILD", "waitpid");
    });
    this.fake.on("kill", (pid) => {
      const exists = this.alive.has(pid) || this.zombies.has(pid) || this.strangers.has(pid);
      if (!exists) throw new SyscallError("ESRCH", "kill");
    });
  }

  reaper(mode: "known" | "all", options: Partial<ReaperOptions> = {}): Reaper {
    return new Reaper({
      sys: this.fake.sys,
      mode,
      now: () => this.nowMs,
      onChildSignal: (listener) => {
        this.#listener = listener;
        return () => {
          this.#listener = undefined;
        };
      },
      ...options,
    });
  }

  get subscribed(): boolean {
    return this.#listener !== undefined;
  }

  end(pid: number, status: ExitStatus): void {
    this.alive.delete(pid);
    this.zombies.set(pid, status);
  }

  signal(): void {
    this.#listener?.();
  }
}

for (const mode of ["known", "all"] as const) {
  test(`${mode}: wait() resolves with the code or the signal of each process`, async () => {
    const children = new Children();
    children.alive.add(10).add(11);
    using reaper = children.reaper(mode);
    const [first, second] = [reaper.wait(10), reaper.wait(11)];
    children.end(11, { signal: 9 });
    children.end(10, { code: 7 });
    children.signal();
    assert.deepEqual(await Promise.all([first, second]), [{ code: 7 }, { signal: 9 }]);
  });

  test(`${mode}: wait() finds an exit that came before it was asked for`, async () => {
    const children = new Children();
    children.alive.add(10);
    using reaper = children.reaper(mode);
    children.end(10, { code: 3 });
    children.signal();
    assert.deepEqual(await reaper.wait(10), { code: 3 });
  });

  test(`${mode}: all who wait at the time get the exit`, async () => {
    const children = new Children();
    children.alive.add(10);
    using reaper = children.reaper(mode);
    const both = [reaper.wait(10), reaper.wait(10)];
    children.end(10, { code: 3 });
    children.signal();
    assert.deepEqual(await Promise.all(both), [{ code: 3 }, { code: 3 }]);
  });

  test(`${mode}: wait() rejects with ECHILD for what is no child`, async () => {
    using reaper = new Children().reaper(mode);
    await assert.rejects(reaper.wait(10), (error) => isSyscallError(error, "ECHILD"));
  });

  test(`${mode}: wait() takes no number that stands for any child`, async () => {
    const children = new Children();
    using reaper = children.reaper(mode);
    children.end(10, { code: 3 });
    for (const pid of [-1, 0, -10, Number.NaN, 1.5]) {
      await assert.rejects(reaper.wait(pid), (error) => isSyscallError(error, "EINVAL"));
    }
    assert.deepEqual(children.zombies.get(10), { code: 3 });
  });

  test(`${mode}: a wait that is given up leaves the exit to the next`, async () => {
    const children = new Children();
    children.alive.add(10);
    using reaper = children.reaper(mode);
    const stop = new AbortController();
    const given = reaper.wait(10, { signal: stop.signal });
    stop.abort(new Error("enough"));
    await assert.rejects(given, /enough/);
    children.end(10, { code: 1 });
    children.signal();
    assert.deepEqual(await reaper.wait(10), { code: 1 });
  });

  test(`${mode}: close() rejects who waits, and listens no more`, async () => {
    const children = new Children();
    children.alive.add(10);
    const reaper = children.reaper(mode);
    const waiting = reaper.wait(10);
    reaper.close();
    await assert.rejects(waiting, (error) => hasCode(error, "canceled"));
    await assert.rejects(reaper.wait(10), (error) => hasCode(error, "canceled"));
    assert.equal(children.subscribed, false);
  });

  test(`${mode}: the loop is kept alive only while somebody waits`, async (t) => {
    t.mock.timers.enable({ apis: ["setInterval"] });
    const children = new Children();
    children.alive.add(10);
    using reaper = children.reaper(mode);
    const setIntervals = t.mock.method(globalThis, "setInterval");
    const clears = t.mock.method(globalThis, "clearInterval");
    const waiting = reaper.wait(10);
    assert.equal(setIntervals.mock.callCount(), 1);
    children.end(10, { code: 0 });
    children.signal();
    await waiting;
    assert.equal(clears.mock.callCount(), 1);
  });
}

test("known: never asks for any child but those waited for", () => {
  const children = new Children();
  children.alive.add(10).add(11);
  using reaper = children.reaper("known");
  void reaper.wait(10).catch(() => undefined);
  children.end(11, { code: 1 });
  children.signal();
  assert.deepEqual(children.zombies.get(11), { code: 1 });
  assert.ok(!children.fake.callsOf("waitpid").some(([pid]) => pid === -1 || pid === 11));
});

test("all: collects orphans nobody asked for", () => {
  const children = new Children();
  children.alive.add(10).add(11);
  using _reaper = children.reaper("all");
  children.end(10, { code: 1 });
  children.end(11, { code: 1 });
  children.signal();
  assert.equal(children.zombies.size, 0);
});

test("all: an early exit of another process with the same number is not taken", async () => {
  const children = new Children();
  children.alive.add(10);
  using reaper = children.reaper("all");
  children.end(10, { code: 1 });
  children.signal();
  children.alive.add(10);
  const waiting = reaper.wait(10);
  children.end(10, { code: 2 });
  children.signal();
  assert.deepEqual(await waiting, { code: 2 });
});

test("all: an early exit from before the mark is not taken", async () => {
  const children = new Children();
  children.alive.add(10);
  using reaper = children.reaper("all");
  children.end(10, { code: 1 });
  children.signal();
  const after = reaper.mark();
  // Number 10 again, still a child of the runtime that was spawned.
  children.strangers.add(10);
  const waiting = reaper.wait(10, { after });
  children.strangers.delete(10);
  children.end(10, { code: 2 });
  children.signal();
  assert.deepEqual(await waiting, { code: 2 });
});

test("all: waits for a process that is not re-parented yet, until it vanishes", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const children = new Children();
  children.strangers.add(10);
  using reaper = children.reaper("all");
  const waiting = reaper.wait(10);
  t.mock.timers.tick(10_000);
  children.strangers.delete(10);
  const refused = assert.rejects(waiting, (error) => isSyscallError(error, "ECHILD"));
  t.mock.timers.tick(10_000);
  await refused;
});

test("all: early exits are bounded by number and by age", async () => {
  const children = new Children();
  using reaper = children.reaper("all", { earlyExitsMax: 2, earlyExitAgeMsMax: 100 });
  for (const pid of [10, 11, 12]) children.end(pid, { code: pid });
  children.signal();
  await assert.rejects(reaper.wait(10), (error) => isSyscallError(error, "ECHILD"));
  assert.deepEqual(await reaper.wait(11), { code: 11 });
  children.nowMs = 101;
  children.end(13, { code: 13 });
  children.signal();
  await assert.rejects(reaper.wait(12), (error) => isSyscallError(error, "ECHILD"));
  assert.deepEqual(await reaper.wait(13), { code: 13 });
});
