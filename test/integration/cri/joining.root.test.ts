import assert from "node:assert/strict";
import { readFileSync, readlinkSync } from "node:fs";
import {
  applyOptions,
  withAnnotations,
  withArgs,
  withCgroupsPath,
  withNamespace,
} from "#pkg/oci/spec-options.ts";
import { defaultSpec } from "#pkg/oci/default-spec.ts";
import type { NamespaceType } from "#pkg/oci/linux-spec.ts";
import { specTypeUrl } from "#pkg/oci/runtime-spec.ts";
import { daemonKind } from "#test/support/daemon.ts";
import { busyboxImage } from "#test/support/images.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  importImage,
  makeNetworkNamespace,
  needsOfPods,
  podConfig,
  podId,
  podNamespace,
  type Pods,
  removePod,
  startPod,
  startPods,
} from "./pods.ts";

const SIGKILL = 9;
const kinds = { network: "net", ipc: "ipc", uts: "uts", pid: "pid" } as const;

function namespaceOf(pid: number, kind: string): string {
  return readlinkSync(`/proc/${pid}/ns/${kind}`);
}

/** A container of the pod, as CRI makes it: in the namespaces of the pause process. */
async function joinPod(room: Room, pods: Pods, id: string, pod: { id: string; pid: number }) {
  const { ctx, containers, tasks } = pods;
  const joined = Object.entries(kinds).map(([type, kind]) =>
    withNamespace({ type: type as NamespaceType, path: `/proc/${pod.pid}/ns/${kind}` }),
  );
  const spec = applyOptions(
    defaultSpec({ namespace: podNamespace, id }),
    ...joined,
    withArgs(["/bin/sleep", "1000"]),
    withCgroupsPath(`/${room.namespace}/${id}`),
    withAnnotations({
      "io.kubernetes.cri.container-type": "container",
      "io.kubernetes.cri.sandbox-id": pod.id,
    }),
  );
  await pods.daemon.ctrOk(["-n", podNamespace, "snapshots", "prepare", id, await chainOf(pods)]);
  await containers.create(ctx, {
    container: {
      id,
      image: "busybox.test/busybox:1",
      runtime: { name: "io.containerd.runc.v2" },
      spec: { typeUrl: specTypeUrl, value: Buffer.from(JSON.stringify(spec)) },
      snapshotter: "overlayfs",
      snapshotKey: id,
      sandbox: "",
    },
  });
  const { mounts: rootfs } = await pods.snapshots.mounts(ctx, {
    snapshotter: "overlayfs",
    key: id,
  });
  await tasks.create(ctx, { containerId: id, rootfs });
  return (await tasks.start(ctx, { containerId: id })).pid;
}

/** The snapshot on which containers of the imported image stand: the longest chain of two layers. */
async function chainOf({ snapshots, ctx }: Pods): Promise<string> {
  for await (const { info } of snapshots.list(ctx, { snapshotter: "overlayfs" })) {
    const top = info.find(({ parent, kind }) => parent !== "" && kind === 3);
    if (top) return top.name;
  }
  throw new Error("no image is unpacked");
}

async function endContainer({ ctx, tasks, containers, snapshots }: Pods, id: string) {
  const exited = tasks.wait(ctx, { containerId: id });
  await tasks.kill(ctx, { containerId: id, signal: SIGKILL });
  await exited;
  await tasks.delete(ctx, { containerId: id });
  await containers.delete(ctx, { id });
  await snapshots.remove(ctx, { snapshotter: "overlayfs", key: id });
}

function parentOf(pid: number): number {
  return Number(/^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

roomTest(
  "containers join a pod: its network, its name, its processes, and with grouping its supervisor",
  async (room) => {
    const isOurs = daemonKind() === "ours";
    const grouping = `
[plugins."io.containerd.shim.v1.manager"]
  grouping = "pod"`;
    const pods = await startPods(room, { config: isOurs ? grouping : "" });
    await importImage(room, pods.daemon, busyboxImage(), "busybox.test/busybox:1");
    const netns = await makeNetworkNamespace(room);
    const ids = ["a", "b"].map((name) => podId(room, `pod-${name}`));
    const made = new Map<string, { id: string; pid: number; joined: number[] }>();
    for (const id of ids) {
      const pid = await startPod(pods, id, podConfig(room), { NetNSPath: netns });
      const pod = { id, pid, joined: [] as number[] };
      made.set(id, pod);
      for (const n of [1, 2]) pod.joined.push(await joinPod(room, pods, `${id}-c${n}`, pod));
    }
    for (const { pid, joined } of made.values()) {
      for (const member of joined) {
        for (const kind of Object.values(kinds)) {
          assert.equal(namespaceOf(member, kind), namespaceOf(pid, kind), kind);
        }
        assert.notEqual(namespaceOf(member, "mnt"), namespaceOf(pid, "mnt"));
        // One process holds all of a pod, and another one all of another.
        assert.equal(parentOf(member), parentOf(pid));
      }
    }
    const [first, second] = [...made.values()];
    assert.ok(first && second);
    assert.notEqual(parentOf(first.pid), parentOf(second.pid));
    assert.notEqual(namespaceOf(first.pid, "uts"), namespaceOf(second.pid, "uts"));
    // The end of a pod's containers is not its own.
    await endContainer(pods, `${first.id}-c1`);
    assert.equal((await pods.controller.status(pods.ctx, first.id)).state, "SANDBOX_READY");
    await endContainer(pods, `${first.id}-c2`);
    await removePod(pods, first.id);
    assert.equal((await pods.controller.status(pods.ctx, second.id)).state, "SANDBOX_READY");
    // With a process namespace of its own a pod takes its containers along.
    const exited = pods.tasks.wait(pods.ctx, { containerId: `${second.id}-c1` });
    await pods.controller.stop(pods.ctx, second.id);
    assert.equal((await exited).exitStatus, 137);
    for (const n of [1, 2]) {
      const containerId = `${second.id}-c${n}`;
      await pods.tasks.wait(pods.ctx, { containerId });
      await pods.tasks.delete(pods.ctx, { containerId });
      await pods.containers.delete(pods.ctx, { id: containerId });
      await pods.snapshots.remove(pods.ctx, { snapshotter: "overlayfs", key: containerId });
    }
    await pods.controller.shutdown(pods.ctx, second.id);
  },
  { needs: needsOfPods, timeoutMs: 180_000 },
);
