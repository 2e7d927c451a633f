import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { type Daemon, type DaemonKind, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { openRoom, type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";

async function freePort(): Promise<number> {
  const server = createServer().listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address !== "object" || address === null) throw new Error("no address");
  return address.port;
}

interface Scraped {
  readonly daemon: Daemon;
  readonly scrape: () => Promise<string>;
}

async function startWithMetrics(
  room: Room,
  { kind, more = "" }: { kind?: DaemonKind; more?: string } = {},
): Promise<Scraped> {
  const port = await freePort();
  const config = `[metrics]\n  address = "127.0.0.1:${port}"\n  grpc_histogram = true\n${more}`;
  const daemon = await startDaemon(room, { ...(kind && { kind }), config });
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  const scrape = async (): Promise<string> => {
    const response = await fetch(`http://127.0.0.1:${port}/v1/metrics`);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    return response.text();
  };
  return { daemon, scrape };
}

async function withContainer<T>(daemon: Daemon, work: () => Promise<T>): Promise<T> {
  await daemon.ctrOk(["run", "-d", image, "c1", "sleep", "1000"]);
  try {
    return await work();
  } finally {
    await daemon.ctrOk(["t", "rm", "-f", "c1"]);
    await daemon.ctrOk(["c", "rm", "c1"]);
  }
}

/** `name{labels}` of every sample. */
function seriesOf(text: string): string[] {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return lines.map((line) => line.slice(0, line.lastIndexOf(" ")));
}

roomTest("the daemon, its calls and its containers tell Prometheus how they are", async (room) => {
  const { daemon, scrape } = await startWithMetrics(room);
  const text = await withContainer(daemon, scrape);
  const value = (series: string): number => {
    const line = text.split("\n").find((each) => each.startsWith(`${series} `));
    assert.ok(line, `${series} is missing`);
    return Number(line.slice(series.length + 1));
  };
  const owner = `container_id="c1",namespace="${room.namespace}",runtime="io.containerd.runc.v2"`;
  assert.ok(value(`container_memory_usage_usage_bytes{${owner}}`) > 0);
  assert.ok(value(`container_cpu_total_nanoseconds{${owner}}`) > 0);
  assert.equal(value(`container_pids_current{${owner}}`), 1);
  const start = `grpc_method="Start",grpc_service="containerd.services.tasks.v1.Tasks",grpc_type="unary"`;
  assert.equal(value(`grpc_server_started_total{${start}}`), 1);
  assert.equal(value(`grpc_server_handled_total{grpc_code="OK",${start}}`), 1);
  assert.equal(value(`grpc_server_handled_total{grpc_code="NotFound",${start}}`), 0);
  assert.equal(value(`grpc_server_handling_seconds_count{${start}}`), 1);
  assert.ok(value("process_resident_memory_bytes") > 0);
  assert.match(text, /^containerd_build_info_total\{revision="[^"]+",version="[^"]+"\} 1$/m);
  await daemon.ctrOk(["leases", "create", "--id", "collect"]);
  await daemon.ctrOk(["leases", "rm", "--sync", "collect"]);
  const after = await scrape();
  assert.doesNotMatch(after, /^container_/m);
  assert.match(after, /^containerd_gc_collections_total\{status="success"\} [1-9]/m);
  assert.match(after, /^containerd_gc_gc_seconds_count [1-9]/m);
});

/** The two daemons refuse each other's folders, so each has a room. */
async function containerSeries(room: Room, kind: DaemonKind): Promise<string[]> {
  const { daemon, scrape } = await startWithMetrics(room, { kind });
  const text = await withContainer(daemon, scrape);
  const series = seriesOf(text).filter((each) => /^(container|process)_/.test(each));
  return series.map((each) => each.replace(room.namespace, "NAMESPACE")).toSorted();
}

roomTest(
  "series of a container and of the process are those of Go containerd",
  async (room) => {
    const other = await openRoom();
    let expected: string[];
    try {
      expected = await containerSeries(other.room, "go");
    } finally {
      await other.close();
    }
    assert.ok(expected.length > 50);
    assert.deepEqual(await containerSeries(room, "ours"), expected);
  },
  { needs: ["go"] },
);

roomTest("no_prometheus leaves the containers out", async (room) => {
  const more = '[plugins."io.containerd.monitor.v1.cgroups"]\n  no_prometheus = true\n';
  const { daemon, scrape } = await startWithMetrics(room, { more });
  const text = await withContainer(daemon, scrape);
  assert.doesNotMatch(text, /^container_/m);
  assert.match(text, /^process_/m);
});
