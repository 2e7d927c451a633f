import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { MetricsSchema as MetricsV1 } from "#api/cgroups/v1/metrics_pb.ts";
import { MetricsSchema as MetricsV2 } from "#api/cgroups/v2/metrics_pb.ts";
import type { Any } from "#pkg/any.ts";
import { debianProgram } from "#test/support/debian.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { recordContainer, rootfsMounts, shell, startTaskDaemon } from "./harness.ts";

const pidsMax = 77;

/** Where the limit of processes is written, whatever the machine's version of cgroups. */
async function readPidsMax(room: Room, id: string): Promise<string> {
  const base = existsSync("/sys/fs/cgroup/cgroup.controllers")
    ? "/sys/fs/cgroup"
    : "/sys/fs/cgroup/pids";
  return (await readFile(join(base, room.namespace, id, "pids.max"), "utf8")).trim();
}

function pidsOf(data: Any): { current: bigint; limit: bigint } {
  const isV1 = data.typeUrl === "io.containerd.cgroups.v1.Metrics";
  assert.equal(data.typeUrl, isV1 ? MetricsV1.typeName : MetricsV2.typeName);
  const { pids } = isV1 ? fromBinary(MetricsV1, data.value) : fromBinary(MetricsV2, data.value);
  assert.ok(pids);
  return pids;
}

const runtimes = {
  "our supervisor": () => "io.containerd.runc.v2",
  "a shim of Go containerd 1.6": () =>
    join(dirname(debianProgram("containerd")), "containerd-shim-runc-v2"),
} as const;

for (const [what, runtime] of Object.entries(runtimes)) {
  roomTest(
    `update and metrics reach the cgroup through ${what}`,
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      await recordContainer(daemon, room, "c1", { args: shell("sleep 1000"), runtime: runtime() });
      await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
      await tasks.start(ctx, { containerId: "c1" });
      await tasks.update(ctx, {
        containerId: "c1",
        resources: {
          typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
          value: Buffer.from(JSON.stringify({ pids: { limit: pidsMax } })),
        },
      });
      assert.equal(await readPidsMax(room, "c1"), String(pidsMax));
      const { metrics } = await tasks.metrics(ctx, { filters: ["id==c1"] });
      assert.deepEqual(
        metrics.map((metric) => metric.id),
        ["c1"],
      );
      const data = metrics[0]?.data;
      assert.ok(data);
      const pids = pidsOf(data);
      assert.ok(pids.current >= 1n);
      assert.equal(pids.limit, BigInt(pidsMax));
      assert.deepEqual((await tasks.metrics(ctx, { filters: ["id==other"] })).metrics, []);
      const exit = tasks.wait(ctx, { containerId: "c1" });
      await tasks.kill(ctx, { containerId: "c1", signal: 9 });
      await exit;
      await tasks.delete(ctx, { containerId: "c1" });
    },
    { needs: ["runc"] },
  );
}
