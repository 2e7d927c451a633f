import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import { unavailable } from "#pkg/errors.ts";
import { silentLogger } from "#pkg/log.ts";
import { type Envelope, Publisher } from "./publisher.ts";
import type { TaskEvent } from "./task-events.ts";

const paused = (containerId: string): TaskEvent => ({ topic: "/tasks/paused", containerId });

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
    const { publisher, slept } = publisherTo(async ({ event, namespace }) => {
      assert.equal(namespace, "ns");
      if (failures > 0) {
        failures -= 1;
        throw new Error("away");
      }
      seen.push(event.containerId);
    });
    for (const id of ["a", "b", "c"]) publisher.publish(paused(id));
    await publisher.flush(1000);
    assert.deepEqual(seen, ["a", "b", "c"]);
    assert.deepEqual(slept, [1000, 2000, 3000]);
  });

  test("no event is given up for a daemon that is away for long", async () => {
    const seen: string[] = [];
    let failures = 50;
    const { publisher, slept } = publisherTo(async ({ event }) => {
      if (failures-- > 0) throw unavailable("no daemon");
      seen.push(event.containerId);
    });
    for (const id of ["a", "b"]) publisher.publish(paused(id));
    await publisher.flush(10_000);
    assert.deepEqual(seen, ["a", "b"]);
    assert.equal(slept.length, 50);
    assert.equal(Math.max(...slept), 5000);
  });

  test("an event that the daemon never takes is given up after six tries", async () => {
    const tries: string[] = [];
    const { publisher } = publisherTo(async ({ event }) => {
      tries.push(event.containerId);
      if (event.containerId === "bad") throw new Error("no");
    });
    publisher.publish(paused("bad"));
    publisher.publish(paused("good"));
    await publisher.flush(1000);
    assert.deepEqual(tries, [...Array.from({ length: 6 }, () => "bad"), "good"]);
  });

  test("the queue holds 2048 events and drops the oldest", async () => {
    const gate = Promise.withResolvers<void>();
    const seen: string[] = [];
    const { publisher } = publisherTo(async ({ event }) => {
      await gate.promise;
      seen.push(event.containerId);
    });
    // The first is with the daemon already and in no queue.
    for (let n = 0; n < 2050; n++) publisher.publish(paused(String(n)));
    gate.resolve();
    await publisher.flush(1000);
    assert.equal(seen.length, 2049);
    assert.deepEqual(seen.slice(0, 2), ["0", "2"]);
  });

  test("flush() ends in time although the daemon is away", async () => {
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
    publisher.publish(paused("a"));
    await publisher.flush(1);
    assert.equal(tries, 1);
  });
});
