import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { linux } from "#pkg/sys/linux.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { WalkingDiffer } from "#plugins/differ/walking/walking-differ.ts";
import { contentService } from "#plugins/services/content/service.ts";
import { diffServiceOf } from "#plugins/services/diff/service.ts";
import { snapshotsServiceOf } from "#plugins/services/snapshots/service.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";
import { type Daemon, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { type Served, serveAt } from "./served.ts";

const image = "docker.io/library/busybox:1";
const ctx = Context.background();

/** An overlayfs of the test's own, which calls itself as the daemon does. */
async function serveSnapshotter(room: Room, name: string): Promise<Served> {
  const workers = room.resources.use(new TreeWorkers());
  const root = join(room.dir, "snapshots");
  const options = { root, workers };
  const snapshotter = room.resources.use(await OverlaySnapshotter.open(ctx, options));
  return serveAt(room, name, snapshotsServiceOf(new Map([[name, snapshotter]])));
}

async function serveContent(room: Room, name: string): Promise<Served> {
  const store = room.resources.use(await LocalContentStore.open(join(room.dir, "content")));
  return serveAt(room, name, contentService(store));
}

function table(name: string, type: string, address: string, more = ""): string {
  return `[proxy_plugins.${name}]\n  type = "${type}"\n  address = "${address}"\n${more}`;
}

async function importInto(daemon: Daemon, snapshotter: string): Promise<void> {
  const stdin = ociArchive(busyboxImage(), image);
  await daemon.ctrOk(["i", "import", "--snapshotter", snapshotter, "-"], { stdin });
}

async function runIn(daemon: Daemon, snapshotter: string): Promise<string> {
  const command = ["sh", "-c", "echo from $0 > /f; cat /f", snapshotter];
  return daemon.ctrOk(["run", "--rm", "--snapshotter", snapshotter, image, "c1", ...command]);
}

async function rowOf(daemon: Daemon, type: string, id: string): Promise<string[]> {
  const rows = (await daemon.ctrOk(["plugins", "ls"])).split("\n").map((row) => row.split(/\s+/));
  return rows.find((row) => row[0] === type && row[1] === id) ?? [];
}

roomTest("a container runs on a snapshotter that another process is", async (room) => {
  const mine = await serveSnapshotter(room, "mine");
  const daemon = await startDaemon(room, { config: table("mine", "snapshot", mine.address) });
  assert.equal((await rowOf(daemon, "io.containerd.snapshotter.v1", "mine")).at(3), "ok");
  await importInto(daemon, "mine");
  assert.equal(await runIn(daemon, "mine"), "from mine\n");
  for (const method of ["prepare", "commit", "mounts", "stat"]) {
    assert.ok(mine.calls.includes(method), `${method} was called: ${mine.calls.join(" ")}`);
  }
  assert.match(await daemon.ctrOk(["snapshots", "--snapshotter", "mine", "ls"]), /Committed/);
});

roomTest("an image's blobs are kept by another process", async (room) => {
  const mine = await serveContent(room, "blobs");
  const daemon = await startDaemon(room, { config: table("blobs", "content", mine.address) });
  // Only one store is taken: the daemon's own must be disabled.
  await daemon.stop();
  const text = await readFile(daemon.configFile, "utf8");
  const disabled = text.replace('v1.cri"]', 'v1.cri", "io.containerd.content.v1.content"]');
  await writeFile(daemon.configFile, disabled);
  await daemon.start();
  assert.deepEqual((await rowOf(daemon, "io.containerd.content.v1", "blobs")).at(3), "ok");
  await importInto(daemon, "native");
  assert.equal(await runIn(daemon, "native"), "from native\n");
  for (const method of ["write", "read", "info"]) {
    assert.ok(mine.calls.includes(method), `${method} was called: ${mine.calls.join(" ")}`);
  }
  const blobs = await daemon.ctrOk(["content", "ls", "-q"]);
  const [digest = ""] = blobs.split("\n");
  const { stdout } = await daemon.ctr(["content", "get", digest]);
  const file = join(room.dir, "content/blobs/sha256", digest.replace("sha256:", ""));
  assert.equal(stdout, await readFile(file, "utf8"));
});

// Go's containerd 1.6 has neither proxies of differs nor platforms of proxies.
if (daemonKind() === "ours") {
  roomTest("layers are unpacked by a differ that another process is", async (room) => {
    const address = join(room.dir, "layers.sock");
    const tail = '[plugins."io.containerd.service.v1.diff-service"]\n  default = ["layers"]\n';
    const more =
      '  platform = "linux/riscv64"\n  capabilities = ["x"]\n  exports = { where = "elsewhere" }\n';
    const type = "io.containerd.differ.v1";
    const config = `${table("layers", type, `unix://${address}`, more)}${tail}`;
    const daemon = await startDaemon(room, { config });
    // It reads blobs from the daemon, as any client does.
    const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
    await mkdir(join(room.dir, "t"));
    const differ = new WalkingDiffer({
      content: new ProxyContentStore(transport),
      mounter: new Mounter({ sys: linux, tempDir: join(room.dir, "t") }),
      workers: room.resources.use(new TreeWorkers()),
      inUserNamespace: false,
    });
    const service = diffServiceOf({ differs: [differ], syncFs: false });
    const served = await serveAt(room, "layers", service);
    await importInto(daemon, "overlayfs");
    assert.equal(await runIn(daemon, "overlayfs"), "from overlayfs\n");
    assert.deepEqual(new Set(served.calls), new Set(["apply"]));
    assert.equal((await rowOf(daemon, type, "layers")).at(2), "linux/riscv64");
    const details = await daemon.ctrOk(["plugins", "ls", "-d", "id==layers"]);
    assert.match(details, /address {2,}unix:\/\/\S+layers\.sock/);
    assert.match(details, /where {2,}elsewhere/);
    assert.match(details, /Capabilities: {2,}x/);
    await daemon.ctrOk(["snapshots", "prepare", "k", ""]);
    await daemon.ctrOk(["snapshots", "diff", "k"]);
    assert.equal(served.calls.at(-1), "diff");
  });
}

roomTest(
  "a daemon starts without the process behind a plugin, and finds it later",
  async (room) => {
    const config = table("mine", "snapshot", join(room.dir, "mine.sock"));
    const daemon = await startDaemon(room, { config });
    assert.deepEqual((await rowOf(daemon, "io.containerd.snapshotter.v1", "mine")).at(3), "ok");
    const prepare = ["snapshots", "--snapshotter", "mine", "prepare", "k"];
    const refused = await daemon.ctr(prepare);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /unavailable/i);
    await importInto(daemon, "native");
    const mine = await serveSnapshotter(room, "mine");
    await daemon.ctrOk(prepare);
    await mine.stop();
    assert.match(
      (await daemon.ctr(["snapshots", "--snapshotter", "mine", "rm", "k"])).stderr,
      /^$/,
    );
    const info = await daemon.ctr(["snapshots", "--snapshotter", "mine", "prepare", "k2"]);
    assert.match(info.stderr, /unavailable/i);
    assert.equal(await daemon.stop(), 0);
  },
);
