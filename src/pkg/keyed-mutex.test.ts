import assert from "node:assert";
import { test } from "node:test";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";

test("one holder per key, in the order of asking", async () => {
  const mutex = new KeyedMutex();
  const order: number[] = [];
  let inside = 0;
  const work = async (n: number): Promise<void> => {
    using _lock = await mutex.acquire("k");
    assert.strictEqual(++inside, 1);
    await new Promise((resolve) => setImmediate(resolve));
    order.push(n);
    inside--;
  };
  await Promise.all([1, 2, 3, 4].map(work));
  assert.deepStrictEqual(order, [1, 2, 3, 4]);
});

test("keys do not wait for each other, and nothing is kept of a free one", async () => {
  const mutex = new KeyedMutex();
  {
    using _a = await mutex.acquire("a");
    using _b = await mutex.acquire("b");
    assert.ok(mutex.isHeld("a") && mutex.isHeld("b"));
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(!mutex.isHeld("a") && !mutex.isHeld("b"));
});

test("it is held from the call on, so a look and a call cannot be split", () => {
  const mutex = new KeyedMutex();
  void mutex.acquire("k");
  assert.ok(mutex.isHeld("k"));
});

test("who gives up waiting lets the next in only when the holder has left", async () => {
  const mutex = new KeyedMutex();
  const holder = await mutex.acquire("k");
  const impatient = new AbortController();
  const second = mutex.acquire("k", impatient.signal);
  let third = false;
  const waiting = mutex.acquire("k").then((lock) => {
    third = true;
    return lock;
  });
  impatient.abort(new Error("enough"));
  await assert.rejects(second, /enough/);
  await new Promise((resolve) => setImmediate(resolve));
  assert.strictEqual(third, false);
  holder[Symbol.dispose]();
  (await waiting)[Symbol.dispose]();
});
