import assert from "node:assert/strict";
import {
  NamespaceMode,
  SecurityProfile_ProfileType as Profile,
} from "#api/cri/runtime/v1/config_pb.ts";
import { labels } from "#cri/annotations.ts";
import type { OciSpec } from "#pkg/oci/runtime-spec.ts";
import type { DaemonKind } from "#test/support/daemon.ts";
import { openRoom, type Room, roomTest } from "#test/support/room.ts";
import {
  containerOf,
  makeNetworkNamespace,
  type PodConfig,
  podConfig,
  podId,
  podSandbox,
  removePod,
  specOf,
  startPods,
} from "./pods.ts";

const { NODE } = NamespaceMode;
/** Which of what the daemons make may be compared to the last byte. */
const isOld = process.env["CONTAINERD_TEST_GO"] === undefined;

const configs: Readonly<Record<string, PodConfig>> = {
  plain: {},
  "the-hosts": {
    hostname: "",
    linux: {
      securityContext: { namespaceOptions: { network: NODE, pid: NODE, ipc: NODE } },
    },
  },
  confined: {
    dnsConfig: { servers: ["10.0.0.10"], searches: [], options: [] },
    linux: {
      sysctls: { "net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1" },
      securityContext: {
        seccomp: { profileType: Profile.RuntimeDefault },
        runAsUser: { value: 1000n },
        runAsGroup: { value: 2000n },
        supplementalGroups: [9n, 7n, 9n],
        selinuxOptions: { level: "s0:c1,c2" },
      },
      resources: {
        cpuPeriod: 100_000n,
        cpuQuota: 50_000n,
        cpuShares: 512n,
        memoryLimitInBytes: 1n << 40n,
      },
    },
  },
  privileged: {
    annotations: {
      "shop.test/one": "1",
      "other.test/two": "2",
      "io.kubernetes.cri.sandbox-id": "not-mine",
      "containerd.io/snapshot/mark": "yes",
    },
    linux: {
      securityContext: {
        privileged: true,
        seccomp: { profileType: Profile.RuntimeDefault },
        namespaceOptions: { usernsOptions: { mode: NODE } },
      },
    },
  },
  legacy: {
    linux: { securityContext: { seccompProfilePath: "runtime/default" } },
  },
};

interface Made {
  readonly spec: OciSpec;
  readonly metadata: unknown;
  readonly info: Readonly<Record<string, unknown>>;
  readonly snapshotLabels: Readonly<Record<string, string>>;
}

/** What a daemon makes of each, with everything that is that daemon's own named alike. */
async function madeBy(kind: DaemonKind, room: Room): Promise<ReadonlyMap<string, Made>> {
  const pods = await startPods(room, {
    kind,
    config: `
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.special]
  runtime_type = "io.containerd.runc.v2"
  pod_annotations = ["shop.test/*", "io.kubernetes.cri.*"]`,
  });
  const netns = await makeNetworkNamespace(room);
  const made = new Map<string, Made>();
  for (const [name, more] of Object.entries(configs)) {
    const id = podId(room, name);
    const config = podConfig(room, more);
    const isHosts = more.linux?.securityContext?.namespaceOptions?.network === NODE;
    const handler = name === "privileged" ? { RuntimeHandler: "special" } : {};
    const network = isHosts ? {} : { NetNSPath: netns };
    await pods.controller.create(pods.ctx, podSandbox(id, config, { ...handler, ...network }));
    await pods.controller.start(pods.ctx, id);
    const { extensions } = await containerOf(pods, id);
    const { value = new Uint8Array() } = extensions[labels.sandboxMetadata] ?? {};
    const status = await pods.controller.status(pods.ctx, id, { verbose: true });
    const { info } = await pods.snapshots.stat(pods.ctx, { snapshotter: "overlayfs", key: id });
    const own: [string, string][] = [
      [pods.daemon.root, "ROOT"],
      [pods.daemon.state, "STATE"],
      [room.namespace, "ROOM"],
      [pods.imageName, "IMAGE"],
      [String(status.pid), "PID"],
    ];
    const alike = (text: string): unknown =>
      JSON.parse(own.reduce((given, [from, to]) => given.replaceAll(from, to), text));
    made.set(name, {
      spec: alike(JSON.stringify(await specOf(pods, id))) as OciSpec,
      metadata: alike(Buffer.from(value).toString("utf8")),
      info: alike((status.info["info"] ?? "{}").replace(/"pid":\d+/, '"pid":"PID"')) as Record<
        string,
        unknown
      >,
      snapshotLabels: info?.labels ?? {},
    });
    await removePod(pods, id);
  }
  await pods.daemon.end();
  return made;
}

/** Go's daemon adds to the pod's own sysctls, in what it keeps of them too. */
function withoutAdded(value: unknown): unknown {
  const added = /,?"net\.ipv4\.ping_group_range":"0 2147483647"/g;
  return JSON.parse(JSON.stringify(value).replaceAll(added, ""));
}

/** In an order of its own where the order means nothing. */
function comparable({ linux, ociVersion, ...spec }: OciSpec): unknown {
  const { maskedPaths, seccomp, ...others } = linux ?? {};
  return {
    ...spec,
    ...(!isOld && { ociVersion }),
    linux: {
      ...others,
      seccomp: seccomp && seccomp.defaultAction,
      ...(!isOld && { maskedPaths: maskedPaths?.toSorted() }),
    },
  };
}

roomTest(
  "a pod's container, its metadata and what is shown of it are those of Go's daemon",
  async (room) => {
    const theirs = await openRoom(room.signal);
    let expected: ReadonlyMap<string, Made>;
    try {
      expected = await madeBy("go", theirs.room);
    } finally {
      await theirs.close();
    }
    const ours = await madeBy("ours", room);
    for (const [name, made] of expected) {
      const own = ours.get(name);
      assert.ok(own);
      assert.deepEqual(comparable(own.spec), comparable(made.spec), name);
      assert.deepEqual(own.metadata, withoutAdded(made.metadata), name);
      assert.deepEqual(own.snapshotLabels, made.snapshotLabels, name);
      const { runtimeSpec: _, ...shown } = made.info;
      const { runtimeSpec, ...ownShown } = own.info;
      assert.deepEqual(ownShown, withoutAdded(shown), name);
      assert.equal((runtimeSpec as OciSpec).hostname, own.spec.hostname);
    }
  },
  { needs: ["runc", "sid"], timeoutMs: 180_000 },
);
