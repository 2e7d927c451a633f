import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Snapshots } from "#api/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { GrpcMountManager } from "#core/mount/manager-proxy.ts";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { snapshotsServiceOf } from "#plugins/services/snapshots/service.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";
import { type Daemon, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { buildImage, busyboxLayer, hostPlatform, ociArchive } from "#test/support/images.ts";
import { until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { whiteout } from "#test/support/tar.ts";
import { serveAt } from "../proxy/served.ts";
import { runtimeSpec, shell } from "../tasks/harness.ts";
import { anyName, importObject, storeObject } from "../transfer/local-transfer.ts";
import { ImageSnapshotter } from "./image-snapshotter.ts";

// Proved on Go containerd 2.4, by CONTAINERD_TEST_GO.

const name = "docker.io/library/layers:1";
const image = buildImage({
  layers: [
    [...busyboxLayer(), { path: "gone", content: "not for long" }],
    [{ path: "etc/motd", content: "second layer\n" }, whiteout("gone")],
  ],
  config: { Cmd: ["sh"], Env: ["PATH=/bin:/sbin"] },
});
const archive = ociArchive(image, name);

interface Setup {
  readonly ctx: Context;
  readonly daemon: Daemon;
  readonly transport: GrpcTransport;
  readonly snapshot: (args: readonly string[]) => Promise<string>;
  /** Nothing is activated, mounted or shown by a device. */
  readonly nothingIsLeft: () => Promise<void>;
}

async function setUp(room: Room): Promise<Setup> {
  const workers = room.resources.use(new TreeWorkers());
  const background = Context.background();
  const options = { root: join(room.dir, "snapshots"), workers };
  const records = room.resources.use(await OverlaySnapshotter.open(background, options));
  const files = join(room.dir, "daemon", "root", "files");
  const snapshotter = await ImageSnapshotter.open(records, files);
  const service = snapshotsServiceOf(new Map([["files", snapshotter]]));
  const { address } = await serveAt(room, "files", service);
  const platform = `linux/${hostPlatform.architecture}`;
  const config = `
[proxy_plugins.files]
  type = "snapshot"
  address = "${address}"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "${platform}"
  snapshotter = "files"
`;
  const daemon = await startDaemon(room, { config });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const manager = new GrpcMountManager(transport);
  return {
    ctx,
    daemon,
    transport,
    snapshot: (args) => daemon.ctrOk(["snapshots", "--snapshotter", "files", ...args]),
    nothingIsLeft: async () => {
      assert.deepEqual(await manager.list(ctx), []);
      assert.equal((await readFile("/proc/self/mountinfo", "utf8")).includes(room.dir), false);
      // The kernel takes its time to let go of a device.
      await until("no device shows a file", async () => (await shown(room)) === 0);
    },
  };
}

async function shown({ dir }: Room): Promise<number> {
  let count = 0;
  for (const device of await readdir("/sys/block")) {
    const file = `/sys/block/${device}/loop/backing_file`;
    if ((await readFile(file, "utf8").catch(() => "")).startsWith(dir)) count++;
  }
  return count;
}

/** Starts a container on the image; what it prints is in the file that is returned. */
async function start(room: Room, { ctx, transport }: Setup, script: string): Promise<string> {
  const id = "c";
  const snapshots = createClient(Snapshots, transport);
  const [parent] = [...image.roles].find(([, role]) => role === "chain1") ?? [];
  // A collection may come before the container does, or after it has gone.
  const labels = { "containerd.io/gc.root": "kept" };
  await snapshots.prepare(ctx, { snapshotter: "files", key: id, parent: parent ?? "", labels });
  const spec = { ...runtimeSpec(room, id, { args: shell(script) }), root: { path: "rootfs" } };
  await createClient(Containers, transport).create(ctx, {
    container: {
      id,
      runtime: { name: "io.containerd.runc.v2" },
      snapshotter: "files",
      snapshotKey: id,
      spec: {
        typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
        value: Buffer.from(JSON.stringify(spec)),
      },
    },
  });
  const { mounts } = await snapshots.mounts(ctx, { snapshotter: "files", key: id });
  const output = join(room.dir, "output");
  const tasks = createClient(Tasks, transport);
  const [stdout, stderr] = [`file://${output}`, `file://${output}`];
  await tasks.create(ctx, { containerId: id, rootfs: mounts, stdout, stderr });
  await tasks.start(ctx, { containerId: id });
  return output;
}

async function end({ ctx, transport, snapshot }: Setup): Promise<void> {
  const tasks = createClient(Tasks, transport);
  await tasks.kill(ctx, { containerId: "c", signal: 9 }).catch(() => undefined); // -- it has ended
  await tasks.wait(ctx, { containerId: "c" });
  await tasks.delete(ctx, { containerId: "c" });
  await createClient(Containers, transport).delete(ctx, { id: "c" });
  await snapshot(["rm", "c"]);
}

async function runs(room: Room, setup: Setup): Promise<void> {
  const script = "cat /etc/motd; test -e /gone || echo hidden; echo new > /new && cat /new";
  const output = await start(room, setup, script);
  const expected = "second layer\nhidden\nnew\n";
  await until("it has printed", async () => (await readFile(output, "utf8")) === expected);
  await end(setup);
}

roomTest(
  "a client unpacks, runs and compares snapshots that only the mount manager can mount",
  async (room) => {
    const setup = await setUp(room);
    const { daemon, snapshot, nothingIsLeft } = setup;
    await daemon.ctrOk(["i", "import", "--snapshotter", "files", "-"], { stdin: archive });
    await nothingIsLeft();
    await runs(room, setup);
    await nothingIsLeft();
    // Upstream's differ compares what the kernel can mount, no more.
    if (daemonKind() === "go") return;
    // While a container writes to it: it is one file system, however often it is mounted.
    const script =
      "echo kept > /kept; rm /etc/motd; echo ready; while sleep 0.1; do cat /kept; done";
    const output = await start(room, setup, script);
    const printed = async (): Promise<string> => readFile(output, "utf8");
    await until("it has written", async () => (await printed()).includes("ready\nkept"));
    const layer = "application/vnd.oci.image.layer.v1.tar";
    const diff = await snapshot(["diff", "--media-type", layer, "c"]);
    const before = (await printed()).length;
    await until("it goes on", async () => (await printed()).length > before);
    for (const entry of ["kept\0", "etc/.wh.motd\0"]) assert.ok(diff.includes(entry), entry);
    await end(setup);
    await nothingIsLeft();
    assert.match(await snapshot(["ls"]), /Committed/);
  },
  { needs: ["loop", "overlayfs"] },
);

roomTest(
  "the daemon itself unpacks into such snapshots",
  async (room) => {
    const setup = await setUp(room);
    const { ctx, transport, nothingIsLeft } = setup;
    const unpacks = [{ platform: hostPlatform, snapshotter: "files" }];
    const store = storeObject({ references: [anyName], platforms: [hostPlatform], unpacks });
    await new GrpcTransferrer(transport).transfer(ctx, importObject(archive), store);
    await nothingIsLeft();
    await runs(room, setup);
    await nothingIsLeft();
  },
  { needs: ["loop", "overlayfs"] },
);
