import assert from "node:assert/strict";
import { linkSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { CdiRegistry } from "#pkg/cdi/cdi-registry.ts";
import { formatLossless } from "#pkg/lossless-json.ts";
import { defaultApparmorProfile, hostHasApparmor, readApparmorHost } from "#pkg/oci/apparmor.ts";
import {
  capabilitiesOf,
  currentCapabilities,
  defaultCapabilities,
  parseProcStatus,
  withAddedCapabilities,
} from "#pkg/oci/capabilities.ts";
import { defaultSpec, hostMaskedPaths } from "#pkg/oci/default-spec.ts";
import { devicesAt, withDevices } from "#pkg/oci/devices.ts";
import { imageUser, parseImageRunConfig, withImageConfig } from "#pkg/oci/image-config.ts";
import { withPrivileges } from "#pkg/oci/privileged.ts";
import {
  withAllDevicesAllowed,
  withDefaultDevices,
  withPidsLimit,
} from "#pkg/oci/resource-options.ts";
import type { OciSpec } from "#pkg/oci/runtime-spec.ts";
import { hostSeccompProfile } from "#pkg/oci/seccomp-default.ts";
import {
  applyOptions,
  type SpecOption,
  withApparmorProfile,
  withArgs,
  withHostname,
  withMounts,
  withNamespace,
  withReadonlyRoot,
  withRlimit,
  withSeccomp,
  withSysctls,
} from "#pkg/oci/spec-options.ts";
import { withUser } from "#pkg/oci/user.ts";
import { DirectoryRoot } from "#pkg/oci/user-files.ts";
import { linux } from "#pkg/sys/linux.ts";
import { makeRootfs } from "#test/integration/shim/bundle.ts";
import { run, runOk } from "#test/support/command.ts";
import { commandPath } from "#test/support/needs.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const applets = ["id", "hostname", "ls", "mount", "unshare", "touch"];

/** A bundle with users, and what the options make of the host's default specification. */
async function bundleOf(room: Room, options: readonly SpecOption[]): Promise<string> {
  const bundle = join(room.dir, "bundle");
  const rootfs = makeRootfs(room, join(bundle, "rootfs"));
  for (const name of applets) {
    linkSync(join(rootfs, "bin/busybox"), join(rootfs, "bin", name));
  }
  writeFileSync(join(rootfs, "etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:1000:2000::/:/bin/sh\n");
  writeFileSync(join(rootfs, "etc/group"), "root:x:0:\nweb:x:2000:\nwheel:x:10:web\n");
  mkdirSync(join(rootfs, "srv"));
  const base = defaultSpec({
    namespace: room.namespace,
    id: "c1",
    maskedPaths: await hostMaskedPaths(),
  });
  const spec = applyOptions(base, withDefaultDevices(), ...options);
  writeFileSync(join(bundle, "config.json"), formatLossless(forOldRuntimes(spec)));
  return bundle;
}

/** Debian's crun refuses versions that it does not know; nothing newer is used here. */
function forOldRuntimes(spec: OciSpec): OciSpec {
  return { ...spec, ociVersion: "1.0.2" };
}

async function runIn(room: Room, runtime: string, options: readonly SpecOption[]) {
  const bundle = await bundleOf(room, options);
  const state = join(room.dir, "state");
  return run([commandPath(runtime) ?? runtime, "--root", state, "run", "--bundle", bundle, "c1"]);
}

function shell(script: string): SpecOption {
  return withArgs(["sh", "-c", script]);
}

const path = withImageConfig(parseImageRunConfig(Buffer.from('{"config":{"Env":["PATH=/bin"]}}')), {
  args: [],
});

/** On hosts that have AppArmor the default profile holds as well. */
async function confined(room: Room): Promise<SpecOption[]> {
  if (!(await hostHasApparmor())) return [];
  const file = join(room.dir, "profile");
  writeFileSync(file, defaultApparmorProfile(room.namespace, await readApparmorHost()));
  await runOk(["apparmor_parser", "-Kr", file]);
  room.resources.defer(async () => {
    await runOk(["apparmor_parser", "-R", file]);
  });
  return [withApparmorProfile(room.namespace)];
}

for (const runtime of ["crun", "runc"] as const) {
  const needs = [runtime];
  suite(`a specification run by ${runtime}`, () => {
    roomTest(
      "the default one confines: capabilities, privileges, seccomp, limits, masks",
      async (room) => {
        const script =
          "cat /proc/self/status; ulimit -n; cat /proc/kcore /proc/interrupts | head -c 1; " +
          "touch /proc/sys/kernel/domainname 2>&1; " +
          "ls /sys/firmware; mount | grep ' /sys '; hostname; id -G; pwd";
        const seccomp = withSeccomp(hostSeccompProfile(defaultCapabilities));
        const options = [path, withUser({ uid: 0, gid: 0 }), seccomp, withHostname("h1")];
        const found = await runIn(room, runtime, [
          ...options,
          ...(await confined(room)),
          shell(script),
        ]);
        const { stdout } = found;
        const sets = parseProcStatus(stdout);
        const given = [...defaultCapabilities].toSorted();
        assert.deepEqual(capabilitiesOf(sets.bounding ?? 0n).toSorted(), given);
        assert.deepEqual(capabilitiesOf(sets.effective ?? 0n).toSorted(), given);
        assert.equal(sets.inheritable, 0n);
        assert.match(stdout, /^NoNewPrivs:\t1$/m);
        assert.match(stdout, /^Seccomp:\t2$/m);
        assert.match(stdout, /^1024$/m);
        assert.match(stdout, /domainname: Read-only file system/);
        assert.match(stdout, /\/sys type sysfs \(ro,/);
        assert.match(stdout, /^h1\n0\n\/\n$/m);
        assert.equal(found.code, 0, found.stderr);
      },
      { needs },
    );

    roomTest(
      "an image's user, environment and directory are the process's",
      async (room) => {
        const config = parseImageRunConfig(
          Buffer.from(
            JSON.stringify({
              config: { User: "web", Env: ["PATH=/bin", "A=b c"], WorkingDir: "/srv", Cmd: ["x"] },
            }),
          ),
        );
        const rootfs = makeRootfs(room, join(room.dir, "users"));
        writeFileSync(join(rootfs, "etc/passwd"), "web:x:1000:2000::/:/bin/sh\n");
        writeFileSync(join(rootfs, "etc/group"), "web:x:2000:\nwheel:x:10:web\n");
        const user = await imageUser(new DirectoryRoot(linux, rootfs), config);
        const { stdout, code } = await runIn(room, runtime, [
          withImageConfig(config, { args: ["sh", "-c", "id; pwd; echo $A; umask"] }),
          withUser(...user),
        ]);
        assert.equal(code, 0);
        const groups = "groups=10(wheel),2000(web)";
        assert.equal(stdout, `uid=1000(web) gid=2000(web) ${groups}\n/srv\nb c\n0022\n`);
      },
      { needs },
    );

    roomTest(
      "seccomp alone refuses what the capability would let through",
      async (room) => {
        const admin = withAddedCapabilities(["CAP_SYS_ADMIN"]);
        const script = shell("unshare -m true && echo unshared; true");
        const strict = [path, admin, withSeccomp(hostSeccompProfile(defaultCapabilities)), script];
        const refused = await runIn(room, runtime, strict);
        assert.doesNotMatch(refused.stdout, /unshared/);
        assert.match(refused.stderr, /Operation not permitted/);
      },
      { needs },
    );

    roomTest(
      "seccomp made for the capability lets it through",
      async (room) => {
        const capabilities = [...defaultCapabilities, "CAP_SYS_ADMIN"];
        const { stdout } = await runIn(room, runtime, [
          path,
          withAddedCapabilities(["CAP_SYS_ADMIN"]),
          withSeccomp(hostSeccompProfile(capabilities)),
          shell("unshare -m true && echo unshared"),
        ]);
        assert.equal(stdout, "unshared\n");
      },
      { needs },
    );

    roomTest(
      "devices, mounts, sysctls, limits, namespaces and a read-only root",
      async (room) => {
        writeFileSync(join(room.dir, "host"), "of the host\n");
        const { stdout, stderr, code } = await runIn(room, runtime, [
          path,
          withReadonlyRoot(),
          withDevices(await devicesAt("/dev/zero", "/dev/mine"), "r"),
          withMounts([
            {
              destination: "/etc/group",
              type: "bind",
              source: join(room.dir, "host"),
              options: ["bind", "ro"],
            },
          ]),
          withSysctls({ "net.ipv4.ip_forward": "1" }),
          withRlimit({ type: "RLIMIT_NOFILE", soft: 77, hard: 77 }),
          withPidsLimit(50),
          withNamespace({ type: "uts", path: `/proc/${process.pid}/ns/uts` }),
          shell(
            "head -c 2 /dev/mine | tr '\\0' z; echo; echo x 2>&1 >/dev/mine; cat /etc/group; " +
              "cat /proc/sys/net/ipv4/ip_forward; ulimit -n; touch /x 2>&1; hostname",
          ),
        ]);
        const hostname = await runOk(["hostname"]);
        assert.match(stdout, /^zz\n/, stderr);
        assert.match(stdout, /^of the host\n1\n77\ntouch: \/x: Read-only file system\n/m);
        assert.ok(stdout.endsWith(hostname));
        assert.equal(code, 0);
      },
      { needs },
    );

    roomTest(
      "a CDI device with its environment, node, mount and hook",
      async (room) => {
        const directory = join(room.dir, "cdi");
        mkdirSync(directory);
        writeFileSync(join(directory, "data"), "for containers\n");
        const file = `
cdiVersion: 0.5.0
kind: vendor.test/thing
containerEdits:
  env: [THING=1]
devices:
- name: one
  containerEdits:
    deviceNodes: [{path: /dev/thing, hostPath: /dev/zero, permissions: r}]
    mounts: [{hostPath: "${directory}/data", containerPath: /srv/data, options: [ro, bind]}]
    hooks: [{hookName: poststop, path: /bin/sh, args: [sh, -c, "echo ran > ${directory}/hook"]}]
`;
        writeFileSync(join(directory, "thing.yaml"), file);
        const registry = await CdiRegistry.read([directory]);
        const { stdout, code, stderr } = await runIn(room, runtime, [
          path,
          await registry.withDevices(["vendor.test/thing=one"]),
          shell("echo $THING; head -c 1 /dev/thing | tr '\\0' z; cat /srv/data"),
        ]);
        assert.equal(stdout, "1\nzfor containers\n", stderr);
        assert.equal(code, 0);
        assert.equal(await runOk(["cat", join(directory, "hook")]), "ran\n");
      },
      { needs },
    );

    roomTest(
      "a privileged one sees what the host's root sees",
      async (room) => {
        const capabilities = await currentCapabilities();
        const { stdout, code, stderr } = await runIn(room, runtime, [
          path,
          withPrivileges(capabilities),
          withAllDevicesAllowed(),
          shell("cat /proc/self/status; mount | grep ' /sys '; head -c 9 /proc/interrupts"),
        ]);
        assert.equal(code, 0, stderr);
        const sets = parseProcStatus(stdout);
        assert.deepEqual(capabilitiesOf(sets.effective ?? 0n), capabilities);
        assert.match(stdout, /^Seccomp:\t0$/m);
        assert.match(stdout, /\/sys type sysfs \(rw,/);
        assert.match(stdout, /CPU0|\s{9}/);
      },
      { needs },
    );
  });
}
