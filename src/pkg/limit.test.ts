import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Limit } from "#pkg/limit.ts";
import { Context } from "#pkg/context.ts";

test("no more than so many at once, first come first served", async () => {
  const ctx = Context.background();
  const limit = new Limit(2);
  const first = await limit.acquire(ctx);
  await limit.acquire(ctx);
  const order: number[] = [];
  const waiting = [3, 4, 5].map(async (n) => {
    using _held = await limit.acquire(ctx);
    order.push(n);
  });
  await Promise.resolve();
  assert.deepEqual(order, []);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  await Promise.all(waiting);
  assert.deepEqual(order, [3, 4, 5]);
});

test("who gives up leaves the queue, and what it was given goes to the next", async () => {
  const controller = new AbortController();
  const ctx = Context.background();
  const limit = new Limit(1);
  const held = await limit.acquire(ctx);
  const lost = limit.acquire(ctx.withSignal(controller.signal));
  const next = limit.acquire(ctx);
  controller.abort();
  // Released before the one that gave up has noticed.
  held[Symbol.dispose]();
  await assert.rejects(lost, { code: "canceled" });
  (await next)[Symbol.dispose]();
  (await limit.acquire(ctx))[Symbol.dispose]();
});

test("without a context whoever waits has its turn, and what is released twice is released once", async () => {
  const limit = new Limit(2);
  const held = new Map<string, Disposable>();
  const enter = async (name: string): Promise<void> => {
    held.set(name, await limit.acquire());
  };
  for (const name of ["a", "b", "c", "d"]) void enter(name);
  await turn();
  assert.deepEqual([...held.keys()], ["a", "b"]);
  const [a, b] = [held.get("a"), held.get("b")];
  a?.[Symbol.dispose]();
  a?.[Symbol.dispose]();
  await turn();
  assert.deepEqual([...held.keys()], ["a", "b", "c"]);
  for (const one of [b, held.get("c")]) one?.[Symbol.dispose]();
  await turn();
  assert.deepEqual([...held.keys()], ["a", "b", "c", "d"]);
  await enter("e");
  assert.equal(held.size, 5);
});
