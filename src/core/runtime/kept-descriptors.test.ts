import assert from "node:assert/strict";
import { test } from "node:test";
import { type Keeper, KeptDescriptors } from "#core/runtime/kept-descriptors.ts";

class FakeKeeper implements Keeper {
  readonly complete = Promise.resolve(true);
  readonly #pids: Readonly<Record<string, number>>;
  isDisposed = false;

  constructor(pids: Readonly<Record<string, number>>) {
    this.#pids = pids;
  }

  processes(): ReturnType<Keeper["processes"]> {
    return Object.entries(this.#pids).map(([containerId, pid]) => {
      return { containerId, execId: "", pid, ends: new Map() };
    });
  }

  [Symbol.dispose](): void {
    this.isDisposed = true;
  }
}

const heldBy = (kept: KeptDescriptors): [string, number][] =>
  kept.processes().map(({ containerId, pid }) => [containerId, pid]);

test("one that died in the middle of its sending counts before those with all", () => {
  using kept = new KeptDescriptors();
  const whole = new FakeKeeper({ a: 1, b: 2 });
  kept.replaceBy(whole);
  kept.add(new FakeKeeper({ b: 3, c: 4 }));
  assert.deepEqual(heldBy(kept), [
    ["b", 3],
    ["c", 4],
    ["a", 1],
  ]);
  const next = new FakeKeeper({ a: 1 });
  kept.replaceBy(next);
  assert.deepEqual(heldBy(kept), [["a", 1]]);
  assert.equal(whole.isDisposed, true);
  assert.equal(next.isDisposed, false);
});

test("of many that died so the newest stay, and the one with all", () => {
  const keepers = [1, 2, 3, 4].map((n) => new FakeKeeper({ [`c${n}`]: n }));
  const kept = new KeptDescriptors();
  for (const keeper of keepers) kept.add(keeper);
  assert.deepEqual(heldBy(kept), [
    ["c4", 4],
    ["c3", 3],
    ["c1", 1],
  ]);
  assert.deepEqual(
    keepers.map(({ isDisposed }) => isDisposed),
    [false, true, false, false],
  );
  kept[Symbol.dispose]();
  assert.ok(keepers.every(({ isDisposed }) => isDisposed));
});
