import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import { CodedError, unavailable } from "#pkg/errors.ts";
import { silentLogger } from "#pkg/log.ts";
import { type Envelope, Publisher } from "./publisher.ts";
import type { OwedEvent } from "./owed-events.ts";

const paused = (id: string): OwedEvent => {
  return { at: 1n, topic: "/tasks/paused", event: { typeUrl: "t", value: Buffer.from(id) } };
};
const idOf = ({ event }: Envelope): string => Buffer.from(event.value).toString();

function publisherTo(forward: (envelope: Envelope) => Promise<void>): {
  publisher: Publisher;
  slept: number[];
} {
  const slept: number[] = [];
  const publisher = new Publisher({
    namespace: "ns",
    logger: silentLogger,
    forward,
    sleep: async (ms) => {
      slept.push(ms);
    },
  });
  return { publisher, slept };
}

suite("publisher", () => {
  test("publish() keeps the order although the daemon is away for a while", async () => {
    const seen: string[] = [];
    let failures = 3;
    const { publisher, slept } = publisherTo(async (envelope) => {
      assert.equal(envelope.namespace, "ns");
      if (failures > 0) {
        failures -= 1;
        throw new Error("away");
      }
      seen.push(idOf(envelope));
    });
    for (const id of ["a", "b", "c"]) publisher.publish(paused(id));
    await publisher.flush(1000);
    assert.deepEqual(seen, ["a", "b", "c"]);
    assert.deepEqual(slept, [1000, 2000, 3000]);
  });

  test("no event is given up for a daemon that is away for long", async () => {
    const seen: string[] = [];
    let failures = 51;
    const { publisher, slept } = publisherTo(async (envelope) => {
      failures -= 1;
      // Away, then there and mute.
      if (failures > 25) throw unavailable("no daemon");
      if (failures > 12) throw new CodedError("deadline-exceeded", "context deadline exceeded");
      if (failures > 0) throw new CodedError("canceled", "context canceled");
      seen.push(idOf(envelope));
    });
    for (const id of ["a", "b"]) publisher.publish(paused(id));
    await publisher.flush(10_000);
    assert.deepEqual(seen, ["a", "b"]);
    assert.equal(slept.length, 50);
    assert.equal(Math.max(...slept), 5000);
  });

  test("an event that the daemon never takes is given up after six tries", async () => {
    const tries: string[] = [];
    const { publisher } = publisherTo(async (envelope) => {
      tries.push(idOf(envelope));
      if (idOf(envelope) === "bad") throw new Error("no");
    });
    const settled: string[] = [];
    for (const id of ["bad", "good"]) publisher.publish(paused(id), () => settled.push(id));
    await publisher.flush(1000);
    assert.deepEqual(settled, ["bad", "good"]);
    assert.deepEqual(tries, [...Array.from({ length: 6 }, () => "bad"), "good"]);
  });

  test("the queue holds 2048 events and drops the oldest", async () => {
    const gate = Promise.withResolvers<void>();
    const seen: string[] = [];
    const settled: string[] = [];
    const { publisher } = publisherTo(async (envelope) => {
      await gate.promise;
      seen.push(idOf(envelope));
    });
    // The first is with the daemon already and in no queue.
    for (let n = 0; n < 2050; n++) {
      publisher.publish(paused(String(n)), () => settled.push(String(n)));
    }
    assert.deepEqual(settled, ["1"]);
    gate.resolve();
    await publisher.flush(1000);
    assert.equal(seen.length, 2049);
    assert.equal(settled.length, 2050);
    assert.deepEqual(seen.slice(0, 2), ["0", "2"]);
  });

  test("flush() ends in time although the daemon is away, and leaves its events unsettled", async () => {
    let tries = 0;
    const publisher = new Publisher({
      namespace: "ns",
      logger: silentLogger,
      forward: async () => {
        tries += 1;
        throw unavailable("away");
      },
      sleep: async (_ms, signal) => {
        await once(signal, "abort");
      },
    });
    let isSettled = false;
    publisher.publish(paused("a"), () => {
      isSettled = true;
    });
    await publisher.flush(1);
    assert.equal(tries, 1);
    assert.equal(isSettled, false);
  });
});
