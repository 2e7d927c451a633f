import { randomInt } from "node:crypto";
import { TaskClient } from "#test/integration/contract/task-client.ts";
import { roomTest } from "#test/support/room.ts";
import { holdingsOf, memoryOf, untilHeld } from "./holdings.ts";
import { Soak } from "./soak.ts";

/** CONTAINERD_TEST_SEED repeats a run, CONTAINERD_TEST_MINUTES shortens it. */
const seed = Number(process.env["CONTAINERD_TEST_SEED"] ?? randomInt(2 ** 31));
const minutes = Number(process.env["CONTAINERD_TEST_MINUTES"] ?? 60);

roomTest(
  `${minutes} minutes of random operations on tasks do what a model says: seed ${seed}`,
  async (room, t) => {
    const client = await TaskClient.start(room, { daemon: "ours", shim: "ours" });
    const before = await holdingsOf(client);
    const soak = new Soak(client, seed);
    const deadline = performance.now() + minutes * 60_000;
    let steps = 0;
    for (; performance.now() < deadline; steps++) {
      await soak.step();
      if (steps % 500 === 0) t.diagnostic(`${steps} operations: ${await memoryOf(client)}`);
    }
    t.diagnostic(`${steps} operations in all, seed ${seed}`);
    await soak.finish();
    // The next daemon ends the supervisor that has nothing left to do.
    await client.restartDaemon();
    await untilHeld(client, before);
  },
  { needs: ["runc"], timeoutMs: (minutes + 15) * 60_000 },
);
