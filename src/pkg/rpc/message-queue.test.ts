import assert from "node:assert/strict";
import { test } from "node:test";
import { MessageQueue } from "./message-queue.ts";

test("items come out in order, those before the end or an error too", async () => {
  const ended = new MessageQueue<number>(3);
  assert.ok(ended.offer(1) && ended.offer(2));
  ended.end();
  assert.deepEqual(await Array.fromAsync(ended), [1, 2]);
  const failed = new MessageQueue<number>(3);
  failed.offer(1);
  failed.fail(new Error("late"));
  assert.deepEqual(await failed.next(), { done: false, value: 1 });
  await assert.rejects(failed.next(), /late/);
  assert.equal((await failed.next()).done, true);
});

test("a full queue refuses, and tells when it has room", async () => {
  const queue = new MessageQueue<number>(2);
  let rooms = 0;
  queue.onRoom = () => rooms++;
  assert.ok(queue.offer(1) && queue.offer(2));
  assert.equal(queue.offer(3), false);
  assert.equal(queue.isFull, true);
  await queue.next();
  assert.equal(rooms, 1);
  assert.equal(queue.offer(3), true);
});

test("a waiting reader gets the item, the end or the error", async () => {
  const queue = new MessageQueue<number>(1);
  const first = queue.next();
  assert.ok(queue.offer(7));
  assert.deepEqual(await first, { done: false, value: 7 });
  const second = queue.next();
  queue.end();
  assert.equal((await second).done, true);
  const failing = new MessageQueue<number>(1);
  const third = failing.next();
  failing.fail(new Error("gone"));
  await assert.rejects(third, /gone/);
});

test("a reader that stops early drops what is queued and refuses the rest", async () => {
  const queue = new MessageQueue<number>(2);
  let returns = 0;
  queue.onReturn = () => returns++;
  queue.offer(1);
  queue.offer(2);
  for await (const item of queue) {
    assert.equal(item, 1);
    break;
  }
  assert.equal(returns, 1);
  assert.equal(queue.offer(3), false);
  assert.equal(queue.isOpen, false);
  assert.equal((await queue.next()).done, true);
});
