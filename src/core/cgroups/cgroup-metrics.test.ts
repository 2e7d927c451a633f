import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { MetricsSchema as MetricsV1Schema } from "#api/cgroups/v1/metrics_pb.ts";
import { MetricsSchema as MetricsV2Schema } from "#api/cgroups/v2/metrics_pb.ts";
import type { Container } from "#core/containers/containers.ts";
import { formatMetrics } from "#core/metrics/text.ts";
import type { Task } from "#core/runtime/runtime.ts";
import type { Any } from "#pkg/any.ts";
import { Context } from "#pkg/context.ts";
import { CodedError, notFound } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";
import { cgroupValues } from "./cgroup-families-convert.ts";
import { CgroupMetrics } from "./cgroup-metrics.ts";

function v1(): Any {
  const message = create(MetricsV1Schema, {
    pids: { current: 3n, limit: 0n },
    blkio: { ioServicedRecursive: [{ op: "Read", major: 8n, minor: 0n, value: 5n }] },
  });
  return { typeUrl: MetricsV1Schema.typeName, value: toBinary(MetricsV1Schema, message) };
}

function v2(): Any {
  const message = create(MetricsV2Schema, {
    memoryEvents: { oom: 2n },
    cpu: { usageUsec: 1500n },
    io: { usage: [{ major: 8n, minor: 1n, rbytes: 10n, wios: 4n }] },
  });
  return {
    typeUrl: `types/${MetricsV2Schema.typeName}`,
    value: toBinary(MetricsV2Schema, message),
  };
}

async function textOf(stats: ReadonlyMap<string, (ctx: Context) => Promise<Any>>) {
  const tasks = [...stats].map(([id, answer]) => {
    const task: Pick<Task, "id" | "namespace" | "stats"> = { id, namespace: "n1", stats: answer };
    return task as Task; // -- the collector calls no more
  });
  const metrics = new CgroupMetrics({
    runtime: { list: async () => tasks },
    containers: {
      // -- the collector reads no more
      get: async () => ({ runtime: { name: "io.containerd.runc.v2" } }) as Container,
    },
    statsTimeoutMs: 20,
  });
  return formatMetrics(await metrics.collect(Context.background()));
}

suite("CgroupMetrics", () => {
  test("collect() names what v1 counts, and leaves out missing controllers", async () => {
    const text = await textOf(new Map([["c1", async () => v1()]]));
    const owner = 'namespace="n1"';
    const blkio = 'container_id="c1",device="",major="8",minor="0"';
    const runtime = 'runtime="io.containerd.runc.v2"';
    assert.deepEqual(
      text.split("\n").filter((line) => !line.startsWith("#") && line !== ""),
      [
        `container_blkio_io_serviced_recursive_total{${blkio},${owner},op="Read",${runtime}} 5`,
        `container_pids_current{container_id="c1",${owner},${runtime}} 3`,
        `container_pids_limit{container_id="c1",${owner},${runtime}} 0`,
      ],
    );
  });

  test("cgroupValues() names what v2 counts", () => {
    const values = new Map(cgroupValues(v2()).map((each) => [each.name, each]));
    assert.equal(values.get("cpu_usage_usec_microseconds")?.value, 1500);
    assert.equal(values.get("memory_oom_total")?.value, 2);
    assert.deepEqual(values.get("io_rbytes_bytes"), {
      name: "io_rbytes_bytes",
      value: 10,
      labels: { major: "8", minor: "1" },
    });
    assert.equal(values.get("io_wios_total")?.value, 4);
    assert.equal(values.has("pids_current"), false);
  });

  test("cgroupValues() refuses statistics of another kind, and broken ones", () => {
    assert.throws(() => cgroupValues({ typeUrl: "windows", value: new Uint8Array() }));
    const value = Uint8Array.of(0xff, 0xff);
    assert.throws(() => cgroupValues({ typeUrl: MetricsV1Schema.typeName, value }));
  });

  test("collect() is not held up by a shim that hangs, fails or has gone", async () => {
    const { promise: never } = Promise.withResolvers<Any>();
    const text = await textOf(
      new Map<string, (ctx: Context) => Promise<Any>>([
        ["hangs", (ctx) => settledOrAborted(never, ctx)],
        ["fails", () => Promise.reject(new CodedError("internal", "broken"))],
        ["gone", () => Promise.reject(notFound("task"))],
        ["c1", async () => v1()],
      ]),
    );
    const ids = new Set(Array.from(text.matchAll(/container_id="([^"]+)"/g), ([, id]) => id));
    assert.deepEqual([...ids], ["c1"]);
  });
});
