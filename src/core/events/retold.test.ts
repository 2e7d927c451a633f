import assert from "node:assert/strict";
import { test } from "node:test";
import type { Envelope } from "#core/events/events.ts";
import { RetoldEvents } from "#core/events/retold.ts";

const envelope: Envelope = {
  timestamp: 17n,
  namespace: "ns",
  topic: "/tasks/start",
  event: { typeUrl: "containerd.events.TaskStart", value: new Uint8Array([1, 2]) },
};

async function isForwarded(retold: RetoldEvents, sent: Envelope): Promise<boolean> {
  let forwards = 0;
  await retold.forwardOnce(sent, async () => {
    forwards += 1;
  });
  return forwards === 1;
}

test("an event of a task that comes twice is told once, and one that differs is another", async () => {
  const retold = new RetoldEvents();
  assert.equal(await isForwarded(retold, envelope), true);
  assert.equal(await isForwarded(retold, { ...envelope }), false);
  const others: Partial<Envelope>[] = [
    { timestamp: 18n },
    { namespace: "other" },
    { topic: "/tasks/paused" },
    { event: { ...envelope.event, value: new Uint8Array([1]) } },
  ];
  for (const other of others) {
    assert.equal(await isForwarded(retold, { ...envelope, ...other }), true);
  }
});

test("one that comes again while it is being forwarded ends as that does", async () => {
  const retold = new RetoldEvents();
  let forwards = 0;
  const twice = (gate: Promise<void>): Promise<void>[] => {
    const forward = async (): Promise<void> => {
      forwards += 1;
      await gate;
    };
    return [retold.forwardOnce(envelope, forward), retold.forwardOnce(envelope, forward)];
  };
  const refusal = Promise.withResolvers<void>();
  const refused = Promise.allSettled(twice(refusal.promise));
  refusal.reject(new Error("no"));
  assert.deepEqual(
    (await refused).map(({ status }) => status),
    ["rejected", "rejected"],
  );
  const taking = Promise.withResolvers<void>();
  const taken = twice(taking.promise);
  taking.resolve();
  await Promise.all(taken);
  assert.equal(forwards, 2);
});

test("one that was refused is refused again", async () => {
  const retold = new RetoldEvents();
  for (let n = 0; n < 2; n++) {
    const refused = retold.forwardOnce(envelope, async () => {
      throw new Error("no");
    });
    await assert.rejects(refused, /no/);
  }
});

test("what is no task's may be said as often as somebody likes", async () => {
  const retold = new RetoldEvents();
  const custom = { ...envelope, topic: "/my/topic" };
  assert.equal(await isForwarded(retold, custom), true);
  assert.equal(await isForwarded(retold, custom), true);
});

test("the oldest are forgotten", async () => {
  const retold = new RetoldEvents();
  for (let n = 0n; n <= 4096n; n++) await isForwarded(retold, { ...envelope, timestamp: n });
  assert.equal(await isForwarded(retold, { ...envelope, timestamp: 1n }), false);
  assert.equal(await isForwarded(retold, { ...envelope, timestamp: 0n }), true);
});
