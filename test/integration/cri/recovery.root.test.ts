import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
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
