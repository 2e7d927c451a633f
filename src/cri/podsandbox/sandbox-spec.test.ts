import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { PodSandboxConfig, SandboxSecurity } from "#cri/pod-sandbox-config.ts";
import {
  cgroupsPath,
  sandboxOomScoreAdj,
  sandboxSpec,
  type SandboxSpecInput,
} from "./sandbox-spec.ts";
import { sandboxPaths } from "./sandbox-paths.ts";

const security: SandboxSecurity = {
  network: "pod",
  pid: "pod",
  ipc: "pod",
  user: undefined,
  runAsUser: undefined,
  runAsGroup: undefined,
  supplementalGroups: [],
  privileged: false,
  seccomp: undefined,
  seccompProfilePath: "",
  selinuxLevel: "",
};

const config: PodSandboxConfig = {
  metadata: { name: "web", uid: "uid", namespace: "shop", attempt: 0 },
  hostname: "web-0",
  logDirectory: "/var/log/pods/web",
  dns: undefined,
  labels: {},
  annotations: {},
  cgroupParent: "",
  sysctls: {},
  resources: undefined,
  security,
};

const input: SandboxSpecInput = {
  id: "pod1",
  namespace: "k8s.io",
  config,
  image: {
    user: "65535:65535",
    env: ["PATH=/"],
    entrypoint: ["/pause"],
    cmd: [],
    workingDir: "/",
    stopSignal: "",
    labels: {},
    volumes: [],
    exposedPorts: [],
  },
  imageName: "registry.test/pause:1",
  netnsPath: "/run/netns/a",
  paths: sandboxPaths({ root: "/r", state: "/s" }, "pod1"),
  mappings: undefined,
  podAnnotations: [],
  maskedPaths: [],
  oomScoreAdj: -998,
  unprivilegedPorts: true,
  unprivilegedIcmp: true,
};

function specWith(
  changes: Partial<PodSandboxConfig> & { readonly security?: SandboxSecurity },
  more: Partial<SandboxSpecInput> = {},
) {
  return sandboxSpec({ ...input, config: { ...config, ...changes }, ...more });
}

const mappings = {
  uids: [{ containerID: 0, hostID: 65_536, size: 65_536 }],
  gids: [{ containerID: 0, hostID: 65_536, size: 65_536 }],
};

suite("sandboxSpec()", () => {
  test("a pod joins its network, waits without privilege, and says whose it is", () => {
    const { process, linux, mounts = [], ...spec } = sandboxSpec(input);
    assert.deepEqual(process?.args, ["/pause"]);
    assert.deepEqual([process?.rlimits, process?.oomScoreAdj], [undefined, -998]);
    assert.deepEqual([spec.root, spec.hostname], [{ path: "rootfs", readonly: true }, "web-0"]);
    assert.deepEqual(linux?.namespaces, [
      { type: "pid" },
      { type: "ipc" },
      { type: "uts" },
      { type: "mount" },
      { type: "network", path: "/run/netns/a" },
    ]);
    assert.equal(linux?.resources?.cpu?.shares, 2);
    assert.equal(linux?.cgroupsPath, "/k8s.io/pod1");
    assert.deepEqual(linux?.sysctl, {
      "net.ipv4.ip_unprivileged_port_start": "0",
      "net.ipv4.ping_group_range": "0 2147483647",
    });
    assert.deepEqual(
      mounts.slice(-2).map(({ source, destination, type }) => [source, destination, type]),
      [
        ["/s/sandboxes/pod1/shm", "/dev/shm", "bind"],
        ["/r/sandboxes/pod1/resolv.conf", "/etc/resolv.conf", "bind"],
      ],
    );
    assert.equal(mounts.filter(({ destination }) => destination === "/dev/shm").length, 1);
    assert.ok(!mounts.some(({ destination }) => destination === "/run"));
    assert.deepEqual(spec.annotations, {
      "io.kubernetes.cri.sandbox-id": "pod1",
      "io.kubernetes.cri.sandbox-namespace": "shop",
      "io.kubernetes.cri.sandbox-uid": "uid",
      "io.kubernetes.cri.sandbox-name": "web",
      "io.kubernetes.cri.sandbox-log-directory": "/var/log/pods/web",
      "io.kubernetes.cri.podsandbox.image-name": "registry.test/pause:1",
      "io.kubernetes.cri.container-type": "sandbox",
    });
  });

  test("what the pod shares with the host is not made for it", () => {
    const hosts = { ...security, network: "node", pid: "node", ipc: "node" } as const;
    const { linux, mounts } = specWith({ security: hosts, hostname: "" });
    assert.deepEqual(linux?.namespaces, [{ type: "mount" }]);
    assert.equal(linux?.sysctl, undefined);
    const shm = mounts?.find(({ destination }) => destination === "/dev/shm");
    assert.equal(shm?.source, "/dev/shm");
  });

  test("a user namespace is that of its network, and then no group may ping", () => {
    const { linux } = specWith({}, { mappings });
    const user = linux?.namespaces?.find(({ type }) => type === "user");
    assert.equal(user?.path, "/s/sandboxes/pod1/pinned-namespaces/user");
    assert.deepEqual(linux?.uidMappings, mappings.uids);
    assert.deepEqual(Object.keys(linux?.sysctl ?? {}), ["net.ipv4.ip_unprivileged_port_start"]);
  });

  test("with the host's network, sysfs is the host's for a user namespace", () => {
    const { linux, mounts } = specWith(
      { security: { ...security, network: "node" } },
      { mappings },
    );
    assert.deepEqual(
      linux?.namespaces?.find(({ type }) => type === "user"),
      { type: "user" },
    );
    const sys = mounts?.filter(({ destination }) => destination === "/sys");
    assert.deepEqual(
      sys?.map(({ type, options }) => [type, options?.[1]]),
      [["bind", "rro"]],
    );
  });

  test("the pod's own sysctls are stronger, and defaults can be turned off", () => {
    const sysctls = { "net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1" };
    const off = { unprivilegedIcmp: false };
    assert.deepEqual(specWith({ sysctls }, off).linux?.sysctl, sysctls);
    assert.equal(specWith({}, { ...off, unprivilegedPorts: false }).linux?.sysctl, undefined);
  });

  test("annotations pass by pattern, and never in the place of whose the container is", () => {
    const annotations = {
      "a.test/x": "1",
      "b.test/y": "2",
      "io.kubernetes.cri.sandbox-id": "evil",
    };
    const made = specWith({ annotations }, { podAnnotations: ["a.test/*", "io.kubernetes.*"] });
    assert.equal(made.annotations?.["a.test/x"], "1");
    assert.equal(made.annotations?.["b.test/y"], undefined);
    assert.equal(made.annotations?.["io.kubernetes.cri.sandbox-id"], "pod1");
  });

  test("what the pod uses in all is told by annotations alone", () => {
    const resources = { cpuPeriod: 1n, cpuQuota: -1n, cpuShares: 2n, memoryLimitBytes: 1n << 60n };
    const { annotations, linux } = specWith({ resources });
    assert.equal(annotations?.["io.kubernetes.cri.sandbox-memory"], "1152921504606846976");
    assert.equal(annotations?.["io.kubernetes.cri.sandbox-cpu-quota"], "-1");
    assert.equal(linux?.resources?.memory, undefined);
  });

  test("privilege makes sysfs writable", () => {
    const { mounts } = specWith({ security: { ...security, privileged: true } });
    const sys = mounts?.find(({ destination }) => destination === "/sys");
    assert.ok(sys?.options?.includes("rw") && !sys.options.includes("ro"));
  });

  test("groups are added once and in order", () => {
    const { process } = specWith({ security: { ...security, supplementalGroups: [9n, 7n, 9n] } });
    assert.deepEqual(process?.user?.additionalGids, [7, 9]);
  });

  test("an image without a command is refused", () => {
    const image = { ...input.image, entrypoint: [] };
    assert.throws(() => specWith({}, { image }), { code: "invalid-argument" });
  });

  test("cgroupsPath() is a scope of a slice, or a directory", () => {
    assert.equal(cgroupsPath("/kubepods/pod1", "id"), "/kubepods/pod1/id");
    assert.equal(cgroupsPath("/a.slice/a-b.slice", "id"), "a-b.slice:cri-containerd:id");
  });

  test("sandboxOomScoreAdj() goes no lower than it may", () => {
    assert.equal(sandboxOomScoreAdj({ restrictTo: undefined }), -998);
    assert.equal(sandboxOomScoreAdj({ restrictTo: 0 }), 0);
    assert.equal(sandboxOomScoreAdj({ restrictTo: -999 }), -998);
  });
});
