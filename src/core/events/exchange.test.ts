import assert from "node:assert/strict";
import { test } from "node:test";
import { imageDelete, taskExit } from "#core/events/convert.ts";
import type { Envelope } from "#core/events/events.ts";
import { InProcessExchange, unsetTimestamp } from "#core/events/exchange.ts";
import { Context } from "#pkg/context.ts";

const ctx = Context.background();
const ns = ctx.withNamespace("ns");
const event = imageDelete({ name: "i" });

function cancellable(): { ctx: Context; cancel: () => void } {
  const controller = new AbortController();
  return { ctx: ctx.withSignal(controller.signal), cancel: () => controller.abort() };
}

async function take(events: AsyncIterable<Envelope>, count: number): Promise<Envelope[]> {
  const taken: Envelope[] = [];
  for await (const envelope of events) {
    if (taken.push(envelope) === count) break;
  }
  return taken;
}

test("everyone subscribed at that moment gets what is published, in order", async () => {
  const exchange = new InProcessExchange();
  await exchange.publish(ns, "/before", event);
  const [a, b] = [exchange.subscribe(ctx), exchange.subscribe(ctx)];
  const before = BigInt(Date.now()) * 1_000_000n;
  for (const topic of ["/images/delete", "/tasks/exit"]) await exchange.publish(ns, topic, event);
  for (const subscription of [a, b]) {
    const [first, second] = await take(subscription, 2);
    assert.deepEqual([first?.topic, second?.topic], ["/images/delete", "/tasks/exit"]);
    assert.deepEqual([first?.namespace, first?.event], ["ns", event]);
    assert.ok((first?.timestamp ?? 0n) >= before - 3_000_000n);
  }
});

test("a waiting reader is woken, and a cancel ends its loop without an error", async () => {
  const exchange = new InProcessExchange();
  const { ctx: reader, cancel } = cancellable();
  const topics: string[] = [];
  const reading = (async () => {
    for await (const { topic } of exchange.subscribe(reader)) topics.push(topic);
  })();
  for (const topic of ["/a", "/b"]) {
    await exchange.publish(ns, topic, event);
    await new Promise(setImmediate);
  }
  cancel();
  await reading;
  assert.deepEqual(topics, ["/a", "/b"]);
  await exchange.publish(ns, "/c", event);
  assert.deepEqual(topics, ["/a", "/b"]);
});

test("a subscription under an ended context has nothing; a deadline is an error", async () => {
  const exchange = new InProcessExchange();
  const { ctx: ended, cancel } = cancellable();
  cancel();
  const subscription = exchange.subscribe(ended);
  await exchange.publish(ns, "/a", event);
  assert.deepEqual(await Array.fromAsync(subscription), []);
  const late = ctx.withSignal(AbortSignal.abort(new DOMException("late", "TimeoutError")));
  await assert.rejects(Array.fromAsync(exchange.subscribe(late)), { code: "deadline-exceeded" });
});

test("close() ends every subscription", async () => {
  const exchange = new InProcessExchange();
  const reading = Array.fromAsync(exchange.subscribe(ctx));
  exchange.close();
  assert.deepEqual(await reading, []);
});

test("subscribe() filters by namespace, topic and the fields of the payload", async () => {
  const exchange = new InProcessExchange();
  const exit = (containerId: string): typeof event =>
    taskExit({ containerId, id: containerId, pid: 1, exitStatus: 0, exitedAt: 0n });
  const subscribed = [
    ["namespace==other"],
    ["topic~=|^/tasks/|", "event.name==i"],
    ['topic=="/tasks/exit",event.container_id==b'],
    [],
  ].map((filters) => exchange.subscribe(ctx, filters));
  await exchange.publish(ns, "/tasks/exit", exit("a"));
  await exchange.publish(ns, "/tasks/exit", exit("b"));
  await exchange.publish(ns, "/images/delete", event);
  await exchange.publish(ctx.withNamespace("other"), "/x", exit("c"));
  const counts = [1, 3, 1, 4];
  for (const [i, subscription] of subscribed.entries()) {
    const taken = await take(subscription, counts[i] ?? 0);
    assert.equal(taken.length, counts[i]);
  }
  assert.throws(() => exchange.subscribe(ctx, ["topic="]), {
    code: "invalid-argument",
    message: /^failed parsing subscription filters: filters: parse error: \[topic/,
  });
});

test("a reader that falls behind gets what was kept and then an error; others lose nothing", async () => {
  const exchange = new InProcessExchange({ eventsMax: 3, bytesMax: 1 << 20 });
  const slow = exchange.subscribe(ctx);
  const fast = exchange.subscribe(ctx)[Symbol.asyncIterator]();
  for (let i = 0; i < 10; i++) {
    await exchange.publish(ns, `/t/${i}`, event);
    assert.equal((await fast.next()).done, false);
  }
  const kept: string[] = [];
  await assert.rejects(
    async () => {
      for await (const { topic } of slow) kept.push(topic);
    },
    { code: "resource-exhausted", message: "subscriber is 4 events behind: resource exhausted" },
  );
  assert.deepEqual(kept, ["/t/0", "/t/1", "/t/2"]);
});

test("the bytes that wait are bounded too, and freed by reading", async () => {
  const exchange = new InProcessExchange({ eventsMax: 1000, bytesMax: 8192 });
  const big = { typeUrl: "x", value: Buffer.alloc(3000) };
  const reader = exchange.subscribe(ctx)[Symbol.asyncIterator]();
  for (let i = 0; i < 20; i++) {
    await exchange.publish(ns, "/t", big);
    await exchange.publish(ns, "/t", big);
    for (let n = 0; n < 2; n++) assert.equal((await reader.next()).done, false);
  }
  for (let i = 0; i < 3; i++) await exchange.publish(ns, "/t", big);
  for (let n = 0; n < 2; n++) assert.equal((await reader.next()).done, false);
  await assert.rejects(reader.next(), { code: "resource-exhausted" });
});

test("publish() refuses with upstream's words", async () => {
  const exchange = new InProcessExchange();
  const refused = (topic: string, message: string): Promise<void> =>
    assert.rejects(exchange.publish(ns, topic, event), { code: "invalid-argument", message });
  await assert.rejects(exchange.publish(ctx, "/a", event), {
    code: "failed-precondition",
    message: "failed publishing event: namespace is required: failed precondition",
  });
  await refused("", 'envelope topic "": must not be empty: invalid argument');
  await refused("a", "envelope topic \"a\": must start with '/': invalid argument");
  await refused("/", 'envelope topic "/": must have at least one component: invalid argument');
  await refused(
    "/a//b",
    'envelope topic "/a//b": failed validation on component "": ' +
      "identifier must not be empty: invalid argument",
  );
});

test("forward() keeps time and namespace, and refuses an envelope without them", async () => {
  const exchange = new InProcessExchange();
  const subscription = exchange.subscribe(ctx);
  const envelope = { timestamp: 0n, namespace: "k8s.io", topic: "/tasks/exit", event };
  await exchange.forward(ctx, envelope);
  assert.deepEqual(await take(subscription, 1), [envelope]);
  await assert.rejects(exchange.forward(ctx, { ...envelope, namespace: "" }), {
    code: "invalid-argument",
    message: "event envelope has invalid namespace: identifier must not be empty: invalid argument",
  });
  await assert.rejects(exchange.forward(ctx, { ...envelope, topic: "x" }), {
    message: "envelope topic \"x\": must start with '/': invalid argument",
  });
  await assert.rejects(exchange.forward(ctx, { ...envelope, timestamp: unsetTimestamp }), {
    message: "timestamp must be set on forwarded event: invalid argument",
  });
});
