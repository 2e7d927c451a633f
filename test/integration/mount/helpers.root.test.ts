import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { GrpcMountManager } from "#core/mount/manager-proxy.ts";
import { mountOf } from "#core/mount/suite.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { daemonKind, startDaemon } from "#test/support/daemon.ts";
import { commandPath } from "#test/support/needs.ts";
import { until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { makeRoot, runtimeSpec, shell } from "../tasks/harness.ts";

/** Mounts by `mount --bind`, and keeps what it was called with; a source that is not there fails. */
const helper = `#!/bin/sh
for argument; do echo "$argument"; done >> "$(dirname "$0")/../called"
test -d "$1" || { echo "no $1" >&2; exit 3; }
exec mount --bind "$1" "$2"
`;

interface Bench {
  readonly ctx: Context;
  readonly transport: GrpcTransport;
  readonly tasks: Client<typeof Tasks>;
  /** What the helpers were called with. */
  readonly called: () => Promise<string>;
}

async function bench(room: Room): Promise<Bench> {
  const bin = join(room.dir, "bin");
  await mkdir(bin);
  for (const name of ["mount.fuse", "mount.fuse3"]) {
    await writeFile(join(bin, name), helper, { mode: 0o755 });
  }
  await makeRoot(room);
  const PATH = `${bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
  const daemon = await startDaemon(room, { env: { PATH } });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const spec = runtimeSpec(room, "c", { args: shell("echo on $(ls /)") });
  await createClient(Containers, transport).create(ctx, {
    container: {
      id: "c",
      runtime: { name: "io.containerd.runc.v2" },
      spec: {
        typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
        value: Buffer.from(JSON.stringify(spec)),
      },
    },
  });
  return {
    ctx,
    transport,
    tasks: createClient(Tasks, transport),
    called: () => readFile(join(room.dir, "called"), "utf8"),
  };
}

roomTest("a task's root is mounted by a helper", async (room) => {
  const { ctx, tasks, called } = await bench(room);
  const source = join(room.dir, "image");
  const root = mountOf("fuse3.testfs", source, ["lowerdir=/a:/b", "ro"]);
  const output = join(room.dir, "output");
  await tasks.create(ctx, {
    containerId: "c",
    rootfs: [{ ...root, options: [...root.options] }],
    stdout: `file://${output}`,
    stderr: `file://${output}`,
  });
  await tasks.start(ctx, { containerId: "c" });
  await tasks.wait(ctx, { containerId: "c" });
  await until("it has printed", async () => (await readFile(output, "utf8")).length > 0);
  assert.equal(await readFile(output, "utf8"), "on bin dev proc sys tmp\n");
  await tasks.delete(ctx, { containerId: "c" });
  // Go's shim may lose sight of the helper, and calls it again.
  const [from, to, ...rest] = (await called()).trim().split("\n").slice(0, 8);
  assert.deepEqual([from, rest], [source, ["-o", "lowerdir=/a:/b", "-o", "ro", "-t", "testfs"]]);
  assert.match(to ?? "", /\/rootfs$/);
});

roomTest(
  "a task's root is a file with a file system, as long as the task is there",
  async (room) => {
    const { ctx, tasks } = await bench(room);
    const file = join(room.dir, "root.ext4");
    const program = commandPath("mkfs.ext4") ?? "";
    execFileSync(program, ["-q", "-d", join(room.dir, "image"), file, "16M"]);
    const output = join(room.dir, "output");
    const [stdout, stderr] = [`file://${output}`, `file://${output}`];
    const rootfs = [{ type: "ext4", source: file, options: ["loop", "noatime"] }];
    await tasks.create(ctx, { containerId: "c", rootfs, stdout, stderr });
    await tasks.start(ctx, { containerId: "c" });
    await tasks.wait(ctx, { containerId: "c" });
    await until("it has printed", async () => (await readFile(output, "utf8")).length > 0);
    assert.equal(await readFile(output, "utf8"), "on bin dev lost+found proc sys tmp\n");
    assert.equal((await loopFiles()).includes(file), true);
    await tasks.delete(ctx, { containerId: "c" });
    await until("the device has gone", async () => !(await loopFiles()).includes(file));
  },
  { needs: ["loop"] },
);

async function loopFiles(): Promise<string> {
  const devices = await readdir("/sys/block");
  const files = devices.map((device) => `/sys/block/${device}/loop/backing_file`);
  // Those that show nothing have none.
  return (await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")))).join("");
}

roomTest("a helper that fails says why", async (room) => {
  const { ctx, tasks } = await bench(room);
  const refused = tasks.create(ctx, {
    containerId: "c",
    rootfs: [{ type: "fuse.testfs", source: "/none", options: ["x"] }],
  });
  await assert.rejects(refused, (error: Error) => {
    const called = /mount helper \[mount\.fuse \[\/none \S+\/rootfs -o x -t testfs\]\] failed: /;
    assert.match(error.message, called);
    // Go leaves the end of the line in.
    assert.match(error.message, /failed: "no \/none(?:\\n)?": exit status 3/);
    return true;
  });
});

// Go's containerd 1.6 has no manager of mounts.
if (daemonKind() === "ours") {
  roomTest("the mount manager and a mount within another use helpers as well", async (room) => {
    const { ctx, transport, tasks } = await bench(room);
    const source = join(room.dir, "image");
    const manager = new GrpcMountManager(transport);
    const mounts = [
      mountOf("fuse.testfs", source),
      mountOf("format/bind", "{{ mount 0 }}", ["rbind"]),
    ];
    const labels = { "containerd.io/gc.bref.container": "c" };
    const { active } = await manager.activate(ctx, "m", mounts, { labels });
    assert.match(await readFile("/proc/self/mountinfo", "utf8"), mountedAt(active[0]?.mountPoint));
    await manager.deactivate(ctx, "m");
    const within = [
      { type: "bind", source, options: ["rbind", "rw"] },
      { type: "fuse.testfs", source, target: "/tmp" },
      { type: "fuse.none", source: "/none", target: "/tmp" },
    ];
    await assert.rejects(tasks.create(ctx, { containerId: "c", rootfs: within }), /rootfs\/tmp -t/);
  });
}

function mountedAt(point = "nowhere"): RegExp {
  return new RegExp(` ${point} `);
}
