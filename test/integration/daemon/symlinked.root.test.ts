import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir, realpath, symlink } from "node:fs/promises";
import { join } from "node:path";
import { GrpcMountManager } from "#core/mount/manager-proxy.ts";
import { mountOf } from "#core/mount/suite.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import {
  assertGone,
  podConfig,
  podId,
  podSandbox,
  removePod,
  startPods,
} from "#test/integration/cri/pods.ts";
import { type Daemon, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";

/** Root and state of the room's daemon lead elsewhere, as `/var/run` leads to `/run`. */
async function putBehindLinks(room: Room): Promise<void> {
  const dir = join(room.dir, "daemon");
  await mkdir(dir);
  for (const name of ["root", "state"]) {
    await mkdir(join(room.dir, "real", name), { recursive: true });
    await symlink(join(room.dir, "real", name), join(dir, name));
  }
}

async function mountsBelow(room: Room): Promise<string[]> {
  const real = join(await realpath(room.dir), "real");
  const table = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return table.map((line) => line.split(" ")[4] ?? "").filter((point) => point.startsWith(real));
}

async function startBehindLinks(room: Room): Promise<Daemon> {
  await putBehindLinks(room);
  return startDaemon(room);
}

roomTest("a container's files outlive its task where root and state are links", async (room) => {
  const daemon = await startBehindLinks(room);
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  await daemon.ctrOk(["run", "-d", image, "c1", "sh", "-c", "echo kept >/kept; sleep 1000"]);
  const exec = async (id: string): Promise<string> =>
    daemon.ctrOk(["t", "exec", "--exec-id", id, "c1", "sh", "-c", "cat /kept && ls /bin"]);
  const files = await exec("e1");
  assert.match(files, /^kept\n.*busybox/s);
  await daemon.ctrOk(["t", "rm", "-f", "c1"]);
  assert.deepEqual(await mountsBelow(room), []);

  await daemon.ctrOk(["t", "start", "-d", "c1"]);
  assert.equal(await exec("e2"), files);
  await daemon.crash();
  await daemon.start();
  assert.equal(await exec("e3"), files);
  await daemon.ctrOk(["t", "rm", "-f", "c1"]);
  assert.deepEqual(await mountsBelow(room), []);

  await daemon.ctrOk(["t", "start", "-d", "c1"]);
  assert.equal(await exec("e4"), files);
  await daemon.ctrOk(["t", "rm", "-f", "c1"]);
  await daemon.ctrOk(["c", "rm", "c1"]);
});

roomTest(
  "a pod gives its shared memory back where root and state are links",
  async (room) => {
    await putBehindLinks(room);
    const pods = await startPods(room);
    const { ctx, controller } = pods;
    const id = podId(room);
    await controller.create(ctx, podSandbox(id, podConfig(room)));
    await controller.start(ctx, id);
    assert.ok((await mountsBelow(room)).some((point) => point.endsWith("/shm")));
    await removePod(pods, id);
    await assertGone(pods, id);
    assert.deepEqual(await mountsBelow(room), []);
  },
  { needs: ["runc"] },
);

roomTest("an activation outlives its daemon where root and state are links", async (room) => {
  // Those before 2.2 have no manager of mounts.
  if (daemonKind() === "go") return;
  const daemon = await startBehindLinks(room);
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const manager = new GrpcMountManager(transport);
  const { namespace } = room;
  await createClient(Leases, transport).create(Context.background({ namespace }), { id: "held" });
  const ctx = Context.background({ namespace, lease: "held" });
  const mounts = [mountOf("tmpfs", "one"), mountOf("format/bind", "{{ mount 0 }}", ["rbind"])];
  const made = await manager.activate(ctx, "m", mounts);
  await daemon.crash();
  await daemon.start();
  assert.deepEqual(await manager.info(ctx, "m"), made);
  await manager.deactivate(ctx, "m");
  assert.deepEqual(await mountsBelow(room), []);
});
