import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { hasCode } from "#pkg/errors.ts";
import {
  withAmbientCapabilities,
  withCapabilities,
  withDroppedCapabilities,
} from "./capabilities.ts";
import { defaultSpec } from "./default-spec.ts";
import { withDevices } from "./devices.ts";
import { withPrivileges } from "./privileged.ts";
import {
  withAllDevicesAllowed,
  withBlockIo,
  withCpu,
  withHugepageLimits,
  withIntelRdt,
  withMemory,
  withMemoryLimit,
  withParentCgroupDevices,
  withPidsLimit,
  withUnified,
} from "./resource-options.ts";
import type { OciSpec } from "./runtime-spec.ts";
import { hostSeccompProfile } from "./seccomp-default.ts";
import * as options from "./spec-options.ts";
import { withAppendedGroups, withUmask, withUser } from "./user.ts";

const { applyOptions, mergeEnv } = options;
const plain = frozen(defaultSpec({ namespace: "default", id: "c1" }));

/** An option that changed what it was given would throw. */
function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) frozen(part);
    Object.freeze(value);
  }
  return value;
}

suite("options of a specification", () => {
  test("CVE-2021-21334: no option reaches another container through what they share", () => {
    const one = frozen(applyOptions(plain, options.withEnv(["SECRET=1"]), withPidsLimit(1)));
    const two = applyOptions(plain, options.withEnv(["A=1"]));
    assert.deepEqual(two.process?.env, ["A=1"]);
    assert.equal(two.linux?.resources?.pids, undefined);
    assert.deepEqual(one.process?.env, ["SECRET=1"]);
  });

  test("CVE-2022-24769: nothing is inheritable, whatever is added", () => {
    assert.equal(plain.process?.capabilities?.inheritable, undefined);
    const all = applyOptions(plain, withCapabilities(["CAP_CHOWN"]), withPrivileges(["CAP_KILL"]));
    assert.equal(all.process?.capabilities?.inheritable, undefined);
  });

  test("ambient capabilities are inheritable as far as they are given", () => {
    const spec = applyOptions(
      plain,
      withAmbientCapabilities(["CAP_KILL", "CAP_CHOWN"]),
      withDroppedCapabilities(["CAP_CHOWN"]),
    );
    assert.deepEqual(spec.process?.capabilities?.inheritable, ["CAP_KILL"]);
    const fewer = withCapabilities(["CAP_MKNOD"])(spec);
    assert.equal(fewer.process?.capabilities?.inheritable, undefined);
  });

  test("mergeEnv() overrides in place, adds at the end and takes away", () => {
    assert.deepEqual(mergeEnv(["A=1", "B=2", "C="], ["B=x=y", "D=4", "A"]), ["B=x=y", "C=", "D=4"]);
    // What is there twice is overridden where programs look: at the last.
    assert.deepEqual(mergeEnv(["B=0", "A=1", "C=1", "A=2"], ["A=3"]), ["B=0", "A=1", "C=1", "A=3"]);
    assert.deepEqual(mergeEnv([], ["A"]), []);
  });

  test("namespaces are replaced by type, joined by path, or the host's", () => {
    const spec = applyOptions(
      plain,
      options.withNamespace({ type: "network", path: "/run/netns/a" }),
      options.withNamespace({ type: "cgroup" }),
      options.withHostNamespace("pid"),
    );
    assert.deepEqual(spec.linux?.namespaces, [
      { type: "ipc" },
      { type: "uts" },
      { type: "mount" },
      { type: "network", path: "/run/netns/a" },
      { type: "cgroup" },
    ]);
  });

  test("mappings of a user namespace add up, and there is one namespace", () => {
    const map = options.withUserNamespace({
      uids: [{ containerID: 0, hostID: 1000, size: 10 }],
      gids: [{ containerID: 0, hostID: 2000, size: 10 }],
    });
    const { linux } = applyOptions(plain, map, map);
    assert.equal(linux?.namespaces?.filter(({ type }) => type === "user").length, 1);
    assert.equal(linux?.uidMappings?.length, 2);
    assert.equal(linux?.gidMappings?.[1]?.hostID, 2000);
  });

  test("mounts are added, taken away, made writable, and /dev/shm sized", () => {
    const spec = applyOptions(
      plain,
      options.withoutMounts(["/run", "/dev/mqueue"]),
      options.withMounts([{ destination: "/sys/fs/cgroup/", type: "cgroup", options: ["ro"] }]),
      options.withWritable("sysfs"),
      options.withWritable("cgroup"),
      options.withDevShmSize(128),
    );
    const at = (path: string) => spec.mounts?.find(({ destination }) => destination === path);
    assert.equal(at("/run"), undefined);
    assert.deepEqual(at("/sys")?.options, ["nosuid", "noexec", "nodev", "rw"]);
    assert.deepEqual(at("/sys/fs/cgroup/")?.options, ["rw"]);
    assert.deepEqual(at("/dev/shm")?.options?.at(-1), "size=128k");
    assert.equal(at("/dev/shm")?.options?.filter((option) => option.startsWith("size=")).length, 1);
    const without = options.withoutMounts(["/sys/fs/cgroup", "/dev/shm"])(spec);
    assert.equal(without.mounts?.length, 4);
    assert.throws(
      () => options.withDevShmSize(1)(without),
      (error) => hasCode(error, "not-found"),
    );
  });

  test("limits add to each other", () => {
    const spec = applyOptions(
      plain,
      withMemoryLimit(2n ** 62n),
      withMemory({ swap: 5 }),
      withCpu({ shares: 2 }),
      withCpu({ cpus: "0-1", mems: "0" }),
      withPidsLimit(10),
      withHugepageLimits([{ pageSize: "2MB", limit: 1 }]),
      withHugepageLimits([
        { pageSize: "2MB", limit: 2 },
        { pageSize: "1GB", limit: 3 },
      ]),
      withBlockIo({ weight: 10 }),
      withUnified({ "memory.high": "1" }),
      withIntelRdt({ closID: "gold" }),
    );
    const { devices: _, ...resources } = spec.linux?.resources ?? {};
    assert.deepEqual(resources, {
      memory: { limit: 2n ** 62n, swap: 5 },
      cpu: { shares: 2, cpus: "0-1", mems: "0" },
      pids: { limit: 10 },
      hugepageLimits: [
        { pageSize: "2MB", limit: 2 },
        { pageSize: "1GB", limit: 3 },
      ],
      blockIO: { weight: 10 },
      unified: { "memory.high": "1" },
    });
    assert.equal(spec.linux?.intelRdt?.closID, "gold");
  });

  test("what else there is of a process and its host", () => {
    const hook = { path: "/bin/hook", args: ["hook"], timeout: 3 };
    const spec = applyOptions(
      plain,
      options.withHostname("h"),
      options.withDomainname("d"),
      options.withAnnotations({ a: "1" }),
      options.withAnnotations({ b: "2" }),
      options.withSysctls({ "net.ipv4.ip_forward": "1" }),
      options.withRootPath("/rootfs"),
      options.withReadonlyRoot(),
      options.withCgroupsPath(""),
      options.withRlimit({ type: "RLIMIT_NOFILE", soft: 1, hard: 2 }),
      options.withRlimit({ type: "RLIMIT_CORE", soft: 0, hard: 2n ** 64n - 1n }),
      options.withOomScoreAdj(-5),
      options.withConsoleSize({ width: 80, height: 25 }),
      options.withHook("prestart", hook),
      options.withHook("prestart", { path: "/bin/second" }),
      withUser({ uid: 5, gid: 6 }, [7]),
      withAppendedGroups([8]),
      withUmask(0o27),
    );
    assert.deepEqual([spec.hostname, spec.domainname], ["h", "d"]);
    assert.deepEqual(spec.annotations, { a: "1", b: "2" });
    assert.deepEqual(spec.linux?.sysctl, { "net.ipv4.ip_forward": "1" });
    assert.deepEqual(spec.root, { path: "/rootfs", readonly: true });
    assert.equal(spec.linux?.cgroupsPath, "");
    assert.deepEqual(
      spec.process?.rlimits?.map(({ type, soft }) => [type, soft]),
      [
        ["RLIMIT_NOFILE", 1],
        ["RLIMIT_CORE", 0],
      ],
    );
    assert.deepEqual(spec.hooks, { prestart: [hook, { path: "/bin/second" }] });
    const user = { uid: 5, gid: 6, additionalGids: [6, 7, 8], umask: 0o27 };
    assert.deepEqual(spec.process?.user, user);
    assert.equal(spec.process?.oomScoreAdj, -5);
    assert.deepEqual(spec.process?.consoleSize, { width: 80, height: 25 });
  });

  test("a privileged container has nothing taken from it", () => {
    const confined: OciSpec = applyOptions(
      plain,
      options.withSeccomp(hostSeccompProfile([])),
      options.withApparmorProfile("x"),
      options.withSelinuxLabel("y"),
    );
    const spec = applyOptions(frozen(confined), withPrivileges(["CAP_SYS_ADMIN"]));
    assert.equal(spec.linux?.seccomp, undefined);
    assert.deepEqual([spec.linux?.maskedPaths, spec.linux?.readonlyPaths], [[], []]);
    assert.deepEqual(
      [spec.process?.apparmorProfile, spec.process?.selinuxLabel],
      [undefined, undefined],
    );
    assert.deepEqual(spec.process?.capabilities?.bounding, ["CAP_SYS_ADMIN"]);
    assert.equal(spec.process?.noNewPrivileges, true);
  });

  test("devices are nodes, and rules by which they may be used", () => {
    const node = { path: "/dev/x", type: "c", major: 10, minor: 2 };
    const spec = applyOptions(plain, withDevices([node], "rw"));
    assert.deepEqual(spec.linux?.devices, [node]);
    const rule = { allow: true, type: "c", major: 10, minor: 2, access: "rw" };
    assert.deepEqual(spec.linux?.resources?.devices?.at(-1), rule);
    const open = withAllDevicesAllowed()(spec);
    assert.deepEqual(open.linux?.resources?.devices, [{ allow: true, access: "rwm" }]);
    assert.equal(withParentCgroupDevices()(open).linux?.resources?.devices, undefined);
  });
});
