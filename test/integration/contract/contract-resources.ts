import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { shell } from "#test/integration/tasks/harness.ts";
import { type ContractTest, refuses } from "./contract-test.ts";

const resourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
const pidsMax = 77;

/** Pause, update, metrics: what goes through the task's cgroup. */
export const resourceTests: readonly ContractTest[] = [
  [
    "a paused task is told as such, its execs too, and goes on when resumed",
    async (client) => {
      const { ctx, tasks } = client;
      await client.run("still", shell("sleep 1000"));
      const still = { containerId: "still" };
      await client.exec("still", "e1", shell("sleep 1000"));
      await tasks.start(ctx, { ...still, execId: "e1" });
      await tasks.pause(ctx, still);
      assert.deepEqual(
        [await client.status("still"), await client.status("still", "e1")],
        ["paused", "paused"],
      );
      await refuses(tasks.pause(ctx, still), "unknown", "cannot pause a paused container");
      await refuses(tasks.start(ctx, still), "unknown", "cannot start a paused process");
      const exec = client.exec("still", "e2", shell("true"));
      await refuses(exec, "unknown", "cannot exec in a paused state");
      await refuses(
        tasks.delete(ctx, still),
        "unknown",
        "failed to delete task: cannot delete a paused process",
      );
      await tasks.resume(ctx, still);
      assert.equal(await client.status("still"), "running");
      assert.equal(await client.remove("still"), 137);
      await client.assertTold("still", [
        "create",
        "start",
        "exec-added e1",
        "exec-started e1",
        "paused",
        "resumed",
        "exit e1 137",
        "exit 137",
        "delete",
      ]);
    },
  ],
  [
    "resources that are updated and counted are those of the task's cgroup",
    async (client) => {
      const { ctx, tasks, room } = client;
      await client.run("bound", shell("sleep 1000"));
      const value = Buffer.from(JSON.stringify({ pids: { limit: pidsMax } }));
      const resources = { typeUrl: resourcesType, value };
      await tasks.update(ctx, { containerId: "bound", resources });
      assert.equal(await readPidsMax(room.namespace, "bound"), String(pidsMax));
      const { metrics } = await tasks.metrics(ctx, { filters: ["id==bound"] });
      assert.deepEqual(
        metrics.map(({ id }) => id),
        ["bound"],
      );
      assert.match(metrics[0]?.data?.typeUrl ?? "", /^io\.containerd\.cgroups\.v[12]\.Metrics$/);
      assert.ok((metrics[0]?.data?.value.length ?? 0) > 0);
      assert.deepEqual((await tasks.metrics(ctx, { filters: ["id==none"] })).metrics, []);
      assert.equal(await client.remove("bound"), 137);
    },
  ],
];

/** Where the limit of processes is written, whatever the machine's version of cgroups. */
async function readPidsMax(namespace: string, id: string): Promise<string> {
  const base = existsSync("/sys/fs/cgroup/cgroup.controllers")
    ? "/sys/fs/cgroup"
    : "/sys/fs/cgroup/pids";
  return (await readFile(join(base, namespace, id, "pids.max"), "utf8")).trim();
}
