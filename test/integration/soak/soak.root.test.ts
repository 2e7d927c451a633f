import { TaskClient } from "#test/integration/contract/task-client.ts";
import { roomTest } from "#test/support/room.ts";
import { Soak } from "./soak.ts";

const seed = 20_261_128;
const steps = 250;

roomTest(
  `${steps} random operations on tasks do what a model says: seed ${seed}`,
  async (room) => {
    const client = await TaskClient.start(room, { daemon: "ours", shim: "ours" });
    const soak = new Soak(client, seed);
    for (let step = 0; step < steps; step++) await soak.step();
    await soak.finish();
  },
  { needs: ["runc"], timeoutMs: 300_000 },
);
