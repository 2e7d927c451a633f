import assert from "node:assert";
import { test } from "node:test";
import { Coalescer } from "#pkg/coalescer.ts";

function gated(): { coalescer: Coalescer<number>; started: () => number; finish: () => void } {
  let runs = 0;
  const gates: PromiseWithResolvers<void>[] = [];
  const coalescer = new Coalescer(async () => {
    const run = ++runs;
    const gate = Promise.withResolvers<void>();
    gates.push(gate);
    await gate.promise;
    return run;
  });
  return { coalescer, started: () => runs, finish: () => gates.shift()?.resolve() };
}

test("who asks during a run shares the next one", async () => {
  const { coalescer, started, finish } = gated();
  const first = coalescer.run();
  const later = [coalescer.run(), coalescer.run(), coalescer.run()];
  assert.strictEqual(started(), 1);
  finish();
  assert.strictEqual(await first, 1);
  assert.strictEqual(started(), 2);
  const after = coalescer.run();
  finish();
  assert.deepStrictEqual(await Promise.all(later), [2, 2, 2]);
  finish();
  assert.strictEqual(await after, 3);
});

test("a failure belongs to those who asked for that run", async () => {
  let runs = 0;
  const coalescer = new Coalescer(async () => {
    if (++runs === 1) throw new Error("first");
    return runs;
  });
  const first = coalescer.run();
  const second = coalescer.run();
  await assert.rejects(first, /first/);
  assert.strictEqual(await second, 2);
});

test("idle() waits for what runs and what waits", async () => {
  const { coalescer, started, finish } = gated();
  void coalescer.run();
  void coalescer.run();
  const idle = coalescer.idle();
  finish();
  await new Promise((resolve) => setImmediate(resolve));
  assert.strictEqual(started(), 2);
  finish();
  await idle;
});
