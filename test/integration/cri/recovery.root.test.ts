import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { existsSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { linux } from "#pkg/sys/linux.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import {
  assertGone,
  makeNetworkNamespace,
  podConfig,
  podId,
  podSandbox,
  type Pods,
  removePod,
  startPod,
  startPods,
} from "./pods.ts";

const SIGKILL = 9;
const directory = "io.containerd.grpc.v1.cri/sandboxes";

async function filesOf({ daemon }: Pods): Promise<string[]> {
  const found: string[] = [];
  for (const top of [daemon.root, daemon.state]) {
    found.push(...(await readdir(join(top, directory)).catch(() => [])));
  }
  return found;
}

roomTest(
  "a pod goes on while its daemon is killed, and is found again with all that is known of it",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, controller, daemon } = pods;
    const netns = await makeNetworkNamespace(room);
    const id = podId(room);
    const pid = await startPod(pods, id, podConfig(room), { NetNSPath: netns });
    const before = await controller.status(ctx, id, { verbose: true });
    await daemon.crash();
    await daemon.start();
    const status = await controller.status(ctx, id, { verbose: true });
    assert.deepEqual(status, before);
    assert.deepEqual([status.state, status.pid], ["SANDBOX_READY", pid]);
    await assert.rejects(controller.create(ctx, podSandbox(id, podConfig(room))), {
      code: "already-exists",
    });
    await assert.rejects(controller.start(ctx, id), { code: "already-exists" });
    const exited = controller.wait(ctx, id);
    await removePod(pods, id);
    assert.equal((await exited).exitStatus, 137);
    await assertGone(pods, id);
    assert.deepEqual(await filesOf(pods), []);
  },
  { needs: ["runc"] },
);

roomTest(
  "a pod that ended while no daemon ran keeps its exit, and is removed after",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, controller, daemon } = pods;
    const id = podId(room);
    const pid = await startPod(pods, id, podConfig(room));
    await daemon.crash();
    linux.kill(pid, SIGKILL);
    await until("the pod has ended", async () => (await processInfo(pid)) === undefined);
    await daemon.start();
    const status = await controller.status(ctx, id);
    assert.deepEqual([status.state, status.pid], ["SANDBOX_NOTREADY", 0]);
    assert.equal((await controller.wait(ctx, id)).exitStatus, 137);
    await removePod(pods, id);
    await assertGone(pods, id);
    assert.deepEqual(await filesOf(pods), []);
  },
  { needs: ["runc"] },
);

roomTest(
  "a pod that ends by itself is told of, its task is deleted, and its container stays",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, controller, containers, tasks } = pods;
    const id = podId(room);
    const pid = await startPod(pods, id, podConfig(room));
    linux.kill(pid, SIGKILL);
    assert.equal((await controller.wait(ctx, id)).exitStatus, 137);
    assert.equal((await controller.status(ctx, id)).state, "SANDBOX_NOTREADY");
    await assert.rejects(tasks.get(ctx, { containerId: id }), { code: "not-found" });
    assert.ok((await containers.get(ctx, { id })).container);
    const { info } = await controller.status(ctx, id, { verbose: true });
    assert.match(info["info"] ?? "", /"processStatus":"deleted"/);
    await removePod(pods, id);
    await assertGone(pods, id);
  },
  { needs: ["runc"] },
);

roomTest(
  "a start that fails and whose task cannot be undone keeps what that stands on for the shutdown",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, controller, containers, snapshots } = pods;
    const id = podId(room);
    const stuck = join(room.dir, "stuck");
    await writeFile(stuck, "");
    const binaryName = join(room.dir, "runtime");
    // Starts nothing, and while it is stuck ends nothing either.
    const refused = `*" start "*) exit 1;;\n*" kill "*|*" delete "*) [ ! -e ${stuck} ] || exit 1;;`;
    const script = `#!/bin/sh\ncase " $* " in\n${refused}\nesac\nexec runc "$@"\n`;
    await writeFile(binaryName, script, { mode: 0o755 });
    const value = toBinary(OptionsSchema, create(OptionsSchema, { binaryName }));
    const sandbox = podSandbox(id, podConfig(room));
    await controller.create(ctx, {
      ...sandbox,
      runtime: { ...sandbox.runtime, options: { typeUrl: "containerd.runc.v1.Options", value } },
    });
    await assert.rejects(controller.start(ctx, id), /failed to start sandbox container task/);
    assert.ok((await containers.get(ctx, { id })).container);
    assert.ok((await snapshots.stat(ctx, { snapshotter: "overlayfs", key: id })).info);
    assert.equal((await filesOf(pods)).length, 2);
    await assert.rejects(controller.start(ctx, id), { code: "failed-precondition" });
    await assert.rejects(controller.shutdown(ctx, id), /failed to stop sandbox container/);
    assert.ok((await containers.get(ctx, { id })).container);
    await rm(stuck);
    await controller.shutdown(ctx, id);
    await assertGone(pods, id);
    assert.deepEqual(await filesOf(pods), []);
  },
  { needs: ["runc"] },
);

roomTest(
  "a task that somebody started in an ended pod goes with the pod",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, controller, snapshots, tasks } = pods;
    const id = podId(room);
    linux.kill(await startPod(pods, id, podConfig(room)), SIGKILL);
    await controller.wait(ctx, id);
    const { mounts } = await snapshots.mounts(ctx, { snapshotter: "overlayfs", key: id });
    const { pid } = await tasks.create(ctx, { containerId: id, rootfs: mounts });
    await tasks.start(ctx, { containerId: id });
    await controller.shutdown(ctx, id);
    await assertGone(pods, id);
    assert.equal(existsSync(`/proc/${pid}/ns/pid`), false);
  },
  { needs: ["runc"] },
);

roomTest(
  "files that nothing is on record of are removed at the start, those of a record stay",
  async (room) => {
    const pods = await startPods(room, { kind: "ours" });
    const { ctx, daemon, store } = pods;
    const kept = podId(room, "kept");
    await store.create(ctx, podSandbox(kept, podConfig(room)));
    for (const id of [kept, podId(room, "left")]) {
      const shm = join(daemon.state, directory, id, "shm");
      await mkdir(shm, { recursive: true });
      linux.mount(shm, { source: "shm", fstype: "tmpfs" });
      await mkdir(join(daemon.root, directory, id), { recursive: true });
      await writeFile(join(daemon.root, directory, id, "hosts"), "");
    }
    await daemon.crash();
    await daemon.start();
    assert.deepEqual(await filesOf(pods), [kept, kept]);
    linux.umount2(join(daemon.state, directory, kept, "shm"), 0);
    await store.delete(ctx, kept);
    await daemon.stop();
    await daemon.start();
    assert.deepEqual(await filesOf(pods), []);
  },
  { needs: ["runc"] },
);

roomTest(
  "a daemon killed between two steps of a start or a removal leaves what can be gone on with",
  async (room) => {
    const env: Record<string, string> = {};
    const pods = await startPods(room, { kind: "ours", env });
    const { ctx, controller, containers, daemon } = pods;
    for (const [failpoint, state] of [
      ["pod.snapshot-made", undefined],
      ["pod.recorded", "SANDBOX_NOTREADY"],
      ["pod.created", "SANDBOX_NOTREADY"],
      ["pod.started", "SANDBOX_READY"],
      ["pod.files-removed", "SANDBOX_NOTREADY"],
    ] as const) {
      await daemon.stop();
      env["CONTAINERD_FAILPOINTS"] = `${failpoint}=kill`;
      await daemon.start();
      const id = podId(room);
      await controller.create(ctx, podSandbox(id, podConfig(room)));
      const cut = controller.start(ctx, id).then(() => controller.shutdown(ctx, id));
      await assert.rejects(cut, failpoint);
      delete env["CONTAINERD_FAILPOINTS"];
      await daemon.crash();
      await daemon.start();
      const found = await controller.status(ctx, id).then(
        (status) => status.state,
        () => undefined,
      );
      assert.equal(found, state, failpoint);
      if (state === undefined) {
        await assert.rejects(containers.get(ctx, { id }), { code: "not-found" });
        await controller.create(ctx, podSandbox(id, podConfig(room)));
        await controller.start(ctx, id);
      }
      await removePod(pods, id);
      await assertGone(pods, id);
      assert.deepEqual(await filesOf(pods), [], failpoint);
    }
  },
  { needs: ["runc"], timeoutMs: 240_000 },
);
