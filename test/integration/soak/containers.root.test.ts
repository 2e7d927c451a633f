import { TaskClient } from "#test/integration/contract/task-client.ts";
import { shell } from "#test/integration/tasks/harness.ts";
import { roomTest } from "#test/support/room.ts";
import { churn } from "./churn.ts";
import { holdingsOf, untilHeld } from "./holdings.ts";

roomTest(
  "two hundred containers that come and go leave nothing in daemon, supervisor and kernel",
  async (room) => {
    const client = await TaskClient.start(room, { daemon: "ours", shim: "ours" });
    // One stays, and with it the supervisor.
    await client.run("stays", shell("sleep 100000"));
    await churn(client, { count: 14, prefix: "warm" });
    const before = await holdingsOf(client);
    await churn(client, { count: 200 });
    await untilHeld(client, before);
    await client.remove("stays");
  },
  { needs: ["runc"], timeoutMs: 300_000 },
);
