import assert from "node:assert/strict";
import { readFileSync, readlinkSync } from "node:fs";
import { chmod } from "node:fs/promises";
import {
  NamespaceMode,
  SecurityProfile_ProfileType as Profile,
} from "#api/cri/runtime/v1/config_pb.ts";
import { run } from "#test/support/command.ts";
import { pauseImage } from "#test/support/images.ts";
import { roomTest } from "#test/support/room.ts";
import {
  makeNetworkNamespace,
  makeOwnedNetwork,
  needsOfPods,
  podConfig,
  podId,
  removePod,
  startPod,
  startPods,
} from "./pods.ts";

const { NODE, POD } = NamespaceMode;

function statusOf(pid: number, field: string): string {
  const found = new RegExp(`^${field}:\\s*(.*)$`, "m").exec(
    readFileSync(`/proc/${pid}/status`, "utf8"),
  );
  return found?.[1] ?? "";
}

async function inNetwork(pid: number, sysctl: string): Promise<string> {
  const path = `/proc/sys/${sysctl.replaceAll(".", "/")}`;
  const { stdout } = await run(["nsenter", "-t", String(pid), "-n", "cat", path]);
  return stdout.trim().replaceAll("\t", " ");
}

roomTest(
  "a pod is confined as it asks: user, groups, seccomp, sysctls",
  async (room) => {
    const pods = await startPods(room);
    const netns = await makeNetworkNamespace(room);
    const id = podId(room);
    const config = podConfig(room, {
      linux: {
        sysctls: { "net.ipv4.ip_unprivileged_port_start": "80" },
        securityContext: {
          runAsUser: { value: 1000n },
          runAsGroup: { value: 2000n },
          seccomp: { profileType: Profile.RuntimeDefault },
        },
      },
    });
    const pid = await startPod(pods, id, config, { NetNSPath: netns });
    assert.match(statusOf(pid, "Uid"), /^1000\t1000/);
    assert.match(statusOf(pid, "Gid"), /^2000\t2000/);
    assert.equal(statusOf(pid, "Seccomp"), "2");
    assert.equal(statusOf(pid, "NoNewPrivs"), "1");
    assert.equal(await inNetwork(pid, "net.ipv4.ip_unprivileged_port_start"), "80");
    assert.equal(await inNetwork(pid, "net.ipv4.ping_group_range"), "0 2147483647");
    await removePod(pods, id);
  },
  { needs: needsOfPods },
);

roomTest(
  "a pod of the host's namespaces has none of its own but that of mounts",
  async (room) => {
    const pods = await startPods(room);
    const id = podId(room);
    const namespaceOptions = { network: NODE, pid: NODE, ipc: NODE };
    const config = podConfig(room, {
      hostname: "",
      linux: { securityContext: { namespaceOptions } },
    });
    const pid = await startPod(pods, id, config);
    for (const kind of ["net", "uts", "pid", "ipc"]) {
      const own = readlinkSync(`/proc/self/ns/${kind}`);
      assert.equal(readlinkSync(`/proc/${pid}/ns/${kind}`), own, kind);
    }
    assert.notEqual(readlinkSync(`/proc/${pid}/ns/mnt`), readlinkSync("/proc/self/ns/mnt"));
    assert.equal(statusOf(pid, "Seccomp"), "0");
    await removePod(pods, id);
  },
  { needs: needsOfPods },
);

roomTest(
  "the name of the image's user is looked up in the image",
  async (room) => {
    const image = pauseImage({ User: "keeper" }, "keeper:x:77:88::/:\n");
    const pods = await startPods(room, { image });
    const id = podId(room);
    const pid = await startPod(pods, id, podConfig(room));
    assert.match(statusOf(pid, "Uid"), /^77\t77/);
    assert.match(statusOf(pid, "Gid"), /^88\t88/);
    await removePod(pods, id);
  },
  { needs: needsOfPods },
);

roomTest(
  "a pod in a user namespace is made in that of its network, and nobody outside",
  async (room) => {
    // Its root is somebody else to the host, and has to come to its files.
    await chmod(room.dir, 0o711);
    const pods = await startPods(room);
    const id = podId(room);
    const mapping = { containerId: 0, hostId: 300_000, length: 65_536 };
    const netns = await makeOwnedNetwork(room, mapping);
    const usernsOptions = { mode: POD, uids: [mapping], gids: [mapping] };
    const config = podConfig(room, {
      linux: { securityContext: { namespaceOptions: { usernsOptions } } },
    });
    const pid = await startPod(pods, id, config, { NetNSPath: netns.path });
    assert.equal(readlinkSync(`/proc/${pid}/ns/user`), netns.owner);
    assert.match(statusOf(pid, "Uid"), /^365535\t/);
    assert.equal(statusOf(pid, "Gid").split("\t")[0], "365535");
    await removePod(pods, id);
  },
  { needs: needsOfPods },
);
