import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { MetricsSchema as MetricsV1 } from "#api/cgroups/v1/metrics_pb.ts";
import { MetricsSchema as MetricsV2 } from "#api/cgroups/v2/metrics_pb.ts";
import { parseCgroup } from "./cgroup.ts";
import { toMetricsV1 } from "./cgroup-v1-convert.ts";
import { toMetricsV2 } from "./cgroup-v2-convert.ts";

const unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
const hybrid = [
  "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu",
  "32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd",
  "33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
].join("\n");

suite("cgroup", () => {
  test("parseCgroup() finds the one directory of a unified hierarchy", () => {
    const found = parseCgroup("0::/ns/c1\n", unified);
    assert.deepEqual(found, { version: 2, path: "/sys/fs/cgroup/ns/c1" });
  });

  test("parseCgroup() takes a hybrid hierarchy for v1", () => {
    const found = parseCgroup("2:cpu:/ns/c1\n1:name=systemd:/ns/c1\n0::/ns/c1\n", hybrid);
    const paths = new Map([["cpu", "/sys/fs/cgroup/cpu/ns/c1"]]);
    assert.deepEqual(found, { version: 1, paths });
  });

  test("toMetricsV2() reads what is there and takes `max` for no limit", async () => {
    const directory = await fixture({
      "pids.current": "3\n",
      "pids.max": "max\n",
      "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
      "memory.current": "4096\n",
      "memory.max": "8192\n",
      "memory.stat": "anon 100\nfile 200\n",
      "memory.events": "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n",
      "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    });
    const any = toMetricsV2(directory);
    assert.equal(any.typeUrl, "io.containerd.cgroups.v2.Metrics");
    const metrics = fromBinary(MetricsV2, any.value);
    assert.equal(metrics.pids?.limit, 2n ** 64n - 1n);
    assert.equal(metrics.cpu?.usageUsec, 1500n);
    assert.equal(metrics.memory?.anon, 100n);
    assert.equal(metrics.memory?.usageLimit, 8192n);
    assert.equal(metrics.memoryEvents?.oomKill, 4n);
    assert.equal(metrics.io?.usage[0]?.wbytes, 2n);
  });

  test("toMetricsV1() leaves out the controllers that are not there", async () => {
    const paths = new Map([
      ["pids", await fixture({ "pids.current": "3\n", "pids.max": "max\n" })],
      ["cpuacct", await fixture({ "cpuacct.usage": "70\n", "cpuacct.usage_percpu": "30 40 \n" })],
    ]);
    const metrics = fromBinary(MetricsV1, toMetricsV1(paths).value);
    assert.deepEqual([metrics.pids?.current, metrics.pids?.limit], [3n, 0n]);
    assert.equal(metrics.cpu?.usage?.total, 70n);
    assert.deepEqual(metrics.cpu?.usage?.perCpu, [30n, 40n]);
    assert.equal(metrics.memory, undefined);
    assert.equal(metrics.blkio, undefined);
    const none = fromBinary(MetricsV1, toMetricsV1(new Map()).value);
    assert.equal(none.cpu, undefined);
  });

  test("toMetricsV1() takes files that make no sense for what they hold that does", async () => {
    const memory = await fixture({
      "memory.stat": "cache 12\nrss\nmapped_file -3\n\nrss_huge many\n\u0000\uffff\n",
      "memory.usage_in_bytes": "99999999999999999999999999\n",
      "memory.limit_in_bytes": "",
    });
    const blkio = await fixture({
      "blkio.throttle.io_serviced":
        "8:0 Read 5\n8:0 Total\nTotal 7\n99999999999999999999999:0 Write 99999999999999999999999\n",
    });
    const any = toMetricsV1(
      new Map([
        ["memory", memory],
        ["blkio", blkio],
      ]),
    );
    const metrics = fromBinary(MetricsV1, any.value);
    assert.equal(metrics.memory?.cache, 12n);
    assert.equal(metrics.memory?.mappedFile, 0n);
    assert.equal(metrics.memory?.usage?.usage, 2n ** 64n - 1n);
    assert.equal(metrics.memory?.usage?.limit, 0n);
    const entries = metrics.blkio?.ioServicedRecursive.map(({ op, value }) => [op, value]);
    assert.deepEqual(entries, [
      ["Read", 5n],
      ["Write", 2n ** 64n - 1n],
    ]);
  });

  test("toMetricsV2() of a cgroup that has gone is all zeros", () => {
    const metrics = fromBinary(MetricsV2, toMetricsV2("/nonexistent").value);
    assert.equal(metrics.pids?.current, 0n);
    assert.equal(metrics.memory?.usage, 0n);
    assert.deepEqual(metrics.io?.usage, []);
  });
});

const fixtures: string[] = [];
after(() => Promise.all(fixtures.map((path) => rm(path, { recursive: true }))));

async function fixture(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cgroup-"));
  fixtures.push(directory);
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  return directory;
}
