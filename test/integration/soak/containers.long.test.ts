import { TaskClient } from "#test/integration/contract/task-client.ts";
import { shell } from "#test/integration/tasks/harness.ts";
import { roomTest } from "#test/support/room.ts";
import { churn } from "./churn.ts";
import { holdingsOf, memoryOf, untilHeld } from "./holdings.ts";

/** CONTAINERD_TEST_CONTAINERS shortens it. */
const count = Number(process.env["CONTAINERD_TEST_CONTAINERS"] ?? 10_000);

roomTest(
  `${count} containers that come and go leave nothing in daemon, supervisor and kernel`,
  async (room, t) => {
    const client = await TaskClient.start(room, { daemon: "ours", shim: "ours" });
    await client.run("stays", shell("sleep 100000"));
    await churn(client, { count: 14, prefix: "warm" });
    const before = await holdingsOf(client);
    const progress = async (done: number): Promise<void> => {
      if (done % 250 === 0) t.diagnostic(`${done} containers: ${await memoryOf(client)}`);
    };
    await churn(client, { count, progress });
    await untilHeld(client, before);
    await client.remove("stays");
  },
  { needs: ["runc"], timeoutMs: 6 * 3_600_000 },
);
