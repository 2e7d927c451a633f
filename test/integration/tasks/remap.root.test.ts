import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { mountMessage } from "#core/mount/convert.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { outputFifo, processSpec, untilText } from "./harness.ts";

const image = "docker.io/library/busybox:1";
const labels = {
  "containerd.io/snapshot/uidmapping": "0:10000:65536",
  "containerd.io/snapshot/gidmapping": "0:20000:65536",
};

async function start(room: Room): Promise<Daemon> {
  // The container's root must get through to its bundle.
  await chmod(room.dir, 0o711);
  const daemon = await startDaemon(room, { kind: "ours" });
  await chmod(join(room.dir, "daemon"), 0o711);
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  return daemon;
}

function specOf(room: Room, script: string): Uint8Array {
  const spec = {
    ociVersion: "1.0.2",
    process: processSpec(["sh", "-c", script]),
    root: { path: "rootfs", readonly: false },
    mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
    linux: {
      cgroupsPath: `/${room.namespace}/c1`,
      namespaces: ["pid", "ipc", "uts", "mount", "network", "user"].map((type) => ({ type })),
      uidMappings: [{ containerID: 0, hostID: 10_000, size: 65_536 }],
      gidMappings: [{ containerID: 0, hostID: 20_000, size: 65_536 }],
      resources: { pids: { limit: 77 } },
    },
  };
  return Buffer.from(JSON.stringify(spec));
}

/** The file with the limit that a process is under. */
function pidsMaxOf(pid: number): string {
  const text = readFileSync(`/proc/${pid}/cgroup`, "utf8");
  const [line = ""] = text.split("\n").filter((each) => /^\d+:(?:pids)?:/.test(each));
  const [, controller = "", path = ""] = line.split(":");
  return join("/sys/fs/cgroup", controller, path, "pids.max");
}

// Not with ctr: Debian's mounts a container's root itself, to look up users, and knows no mappings.
roomTest(
  "a container in a user namespace owns its image's files, which are not copied",
  async (room) => {
    const daemon = await start(room);
    const ctx = Context.background().withNamespace(room.namespace);
    const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
    const snapshotter = new GrpcSnapshotter(transport, "overlayfs");
    const infos = await Array.fromAsync(snapshotter.list(ctx));
    const top = infos.find(({ name }) => !infos.some(({ parent }) => parent === name));
    const mounts = await snapshotter.prepare(ctx, "c1", top?.name ?? "", { labels });
    const id = "c1";
    const typeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
    const script =
      "cat /proc/self/uid_map; stat -c %u:%g / /bin/sh; echo x > /new && stat -c %u:%g /new; " +
      "echo end; sleep 1000";
    await createClient(Containers, transport).create(ctx, {
      container: {
        id,
        runtime: { name: "io.containerd.runc.v2" },
        spec: { typeUrl, value: specOf(room, script) },
        snapshotter: "overlayfs",
        snapshotKey: "c1",
      },
    });
    const stdout = outputFifo(room, "out");
    const tasks = createClient(Tasks, transport);
    await tasks.create(ctx, {
      containerId: id,
      rootfs: mounts.map(mountMessage),
      stdout: stdout.path,
      stderr: stdout.path,
    });
    room.resources.defer(async () => {
      const exit = tasks.wait(ctx, { containerId: id });
      await tasks.kill(ctx, { containerId: id, signal: 9 });
      await exit;
      await tasks.delete(ctx, { containerId: id });
    });
    await tasks.start(ctx, { containerId: id });
    await untilText(stdout, /end\n/);
    const [map = "", ...owners] = stdout.text().split("\n");
    assert.deepEqual(map.trim().split(/\s+/), ["0", "10000", "65536"]);
    // CVE-2025-47291: its limits hold, where the specification says.
    const { process } = await tasks.get(ctx, { containerId: id });
    assert.equal(readFileSync(pidsMaxOf(process?.pid ?? 0), "utf8"), "77\n");
    assert.deepEqual(owners.slice(0, 4), ["0:0", "0:0", "0:0", "end"]);

    const bundle = join(daemon.state, "io.containerd.runtime.v2.task", room.namespace, id);
    const { uid, gid } = statSync(join(bundle, "rootfs/bin/sh"));
    assert.deepEqual([uid, gid], [10_000, 20_000]);
    const snapshots = join(daemon.root, "io.containerd.snapshotter.v1.overlayfs/snapshots");
    const roots = readdirSync(snapshots).map((dir) => statSync(join(snapshots, dir, "fs")).uid);
    assert.deepEqual(
      roots.filter((each) => each !== 0),
      [10_000],
    );
    assert.match(await daemon.ctrOk(["plugins", "ls", "-d", "id==overlayfs"]), /remap-ids/);
  },
  { needs: ["runc", "overlayfs"] },
);
