import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { withAddedCapabilities, withDroppedCapabilities } from "#pkg/oci/capabilities.ts";
import { defaultSpec } from "#pkg/oci/default-spec.ts";
import { devicesAt, withDevices } from "#pkg/oci/devices.ts";
import { parseImageRunConfig, withImageConfig } from "#pkg/oci/image-config.ts";
import { parseSpec } from "#pkg/oci/parse-spec.ts";
import { withCpuQuota, withDefaultDevices, withMemoryLimit } from "#pkg/oci/resource-options.ts";
import type { OciSpec } from "#pkg/oci/runtime-spec.ts";
import { defaultSeccompProfile } from "#pkg/oci/seccomp-default.ts";
import {
  applyOptions,
  type SpecOption,
  withAnnotations,
  withArgs,
  withCwd,
  withEnv,
  withHostFile,
  withHostNamespace,
  withMounts,
  withNamespace,
  withNewPrivileges,
  withReadonlyRoot,
  withRootPropagation,
  withSeccomp,
  withTerminal,
} from "#pkg/oci/spec-options.ts";
import { withUser } from "#pkg/oci/user.ts";

function recorded(file: string): Map<string, OciSpec> {
  const text = readFileSync(join(import.meta.dirname, file), "utf8");
  const found = text.matchAll(/^\$ ctr c info --spec (c\d+) .*\n(\{.*\})/gm);
  return new Map([...found].map(([, id = "", spec = ""]) => [id, parseSpec(spec)]));
}

const image = parseImageRunConfig(
  Buffer.from(
    JSON.stringify({ config: { Env: ["PATH=/bin:/sbin", "FROM_IMAGE=yes"], Cmd: ["sh"] } }),
  ),
);

// In the order of `ctr run`.
function made(id: string, args: readonly string[], before: SpecOption[], after: SpecOption[]) {
  return applyOptions(
    defaultSpec({ namespace: "NAMESPACE", id }),
    withDefaultDevices(),
    ...before,
    withImageConfig(image, { args: [] }),
    withUser({ uid: 0, gid: 0 }),
    ...(args.length > 0 ? [withArgs(args)] : []),
    ...after,
  );
}

const seccomp: SpecOption = (spec) =>
  withSeccomp(
    defaultSeccompProfile({
      capabilities: spec.process?.capabilities?.bounding ?? [],
      architecture: "amd64",
      kernel: "6.1.0",
    }),
  )(spec);

const cases: Readonly<Record<string, () => OciSpec | Promise<OciSpec>>> = {
  c1: () => made("c1", [], [], []),
  c2: () => made("c2", ["echo", "hello"], [], []),
  c3: () => made("c3", ["sh"], [withEnv(["A=1", "PATH=/x"])], [withCwd("/tmp"), withTerminal()]),
  c4: () =>
    made(
      "c4",
      ["sh"],
      [],
      [
        withAddedCapabilities(["CAP_SYS_ADMIN"]),
        withDroppedCapabilities(["CAP_CHOWN"]),
        withNewPrivileges("allowed"),
      ],
    ),
  c5: () =>
    made(
      "c5",
      ["sh"],
      [],
      [withReadonlyRoot(), withAnnotations({ a: "1" }), withAnnotations({ b: "2" })],
    ),
  c6: () =>
    made("c6", ["sh"], [], [withCpuQuota(50_000, { period: 100_000 }), withMemoryLimit(1_048_576)]),
  c7: () =>
    made(
      "c7",
      ["sh"],
      [],
      [withNamespace({ type: "ipc", path: "/proc/1/ns/ipc" }), withRootPropagation("shared")],
    ),
  c8: async () =>
    made(
      "c8",
      ["sh"],
      [withMounts([{ type: "bind", source: "/a", destination: "/b", options: ["rbind", "ro"] }])],
      [withDevices(await devicesAt("/dev/null"), "rwm")],
    ),
  c9: () =>
    made(
      "c9",
      ["sh"],
      [],
      [
        withHostNamespace("network"),
        withHostFile("/etc/hosts"),
        withHostFile("/etc/resolv.conf"),
        withEnv(["HOSTNAME=host"]),
      ],
    ),
  c10: () => made("c10", ["sh"], [], [seccomp]),
  c11: () =>
    made("c11", ["sh"], [], [withAddedCapabilities(["CAP_SYS_ADMIN", "CAP_BPF"]), seccomp]),
};

/** What Go's `ctr` made of its flags, and what containerd 2.4 does otherwise: taken away on both sides. */
interface Recording {
  readonly file: string;
  readonly newer: { readonly maskedPaths: readonly string[]; readonly calls: readonly string[] };
}

// With thermal_throttle since 2.4: they tell of the neighbours.
const interrupts = "/proc/interrupts";

const recordings: Readonly<Record<string, Recording>> = {
  "1.6": {
    file: "golden/flags-of-run-and-what-they-make-of-the-specification.txt",
    newer: {
      maskedPaths: [interrupts, "/sys/devices/virtual/powercap"], // GHSA-7ww5-4wqc-m92c
      calls: [
        // Of kernels newer than 1.6.
        "cachestat fchmodat2 futex_requeue futex_wait futex_wake getxattrat listmount listxattrat",
        "lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack mseal",
        "removexattrat setxattrat statmount uretprobe",
        // Gone since 2.0, for what escaped by it; and let through without CAP_SYS_ADMIN.
        "io_uring_enter io_uring_register io_uring_setup",
        "name_to_handle_at",
        // With ptrace, which from Linux 4.8 on is no way around seccomp.
        "process_vm_readv process_vm_writev",
        // A rule for each family, since AF_VSOCK reaches the host and AF_ALG the kernel.
        "socket",
      ],
    },
  },
  // The same lines with CONTAINERD_TEST_GO at a containerd 2, kept here by hand.
  "2.1": {
    file: "specs-of-ctr-2.txt",
    newer: {
      maskedPaths: [interrupts],
      calls: [
        // Of kernels from 6.8 on.
        "getxattrat listmount listxattrat lsm_get_self_attr lsm_list_modules lsm_set_self_attr",
        "mseal removexattrat setxattrat statmount uretprobe",
        // One rule since 2.0, one for each family since 2.4.
        "socket",
      ],
    },
  },
};

function comparable(spec: OciSpec, { newer }: Recording): unknown {
  const calls = new Set(newer.calls.flatMap((names) => names.split(" ")));
  const { linux, ociVersion: _, ...rest } = spec;
  const { seccomp, maskedPaths = [], ...others } = linux ?? {};
  return sorted({
    ...rest,
    linux: {
      ...others,
      maskedPaths: maskedPaths.filter((path) => !newer.maskedPaths.includes(path)),
      ...(seccomp && {
        seccomp: {
          ...seccomp,
          syscalls: seccomp.syscalls
            ?.map(({ names, ...rule }) => {
              return { ...rule, names: names.filter((name) => !calls.has(name)) };
            })
            .filter(({ names }) => names.length > 0),
        },
      }),
    },
  });
}

/** Go leaves out what is empty; recordings have the options of a mount in the order of the alphabet. */
function sorted(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) {
    const parts = value.map((part) => sorted(part));
    return key === "options" ? parts.map(String).toSorted() : parts;
  }
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value)
    .filter(([name, part]) => name === "allow" || !isEmpty(part))
    .map(([name, part]): [string, unknown] => [name, sorted(part, name)]);
  return Object.fromEntries(entries);
}

function isEmpty(part: unknown): boolean {
  return part === false || (Array.isArray(part) && part.length === 0);
}

for (const [version, recording] of Object.entries(recordings)) {
  suite(`specifications beside those of Go's ctr ${version}`, () => {
    const golden = recorded(recording.file);
    for (const [id, make] of Object.entries(cases)) {
      test(`${id} is field by field the same`, async () => {
        const expected = golden.get(id);
        assert.ok(expected);
        assert.deepEqual(comparable(await make(), recording), comparable(expected, recording));
      });
    }

    test("every recorded one is compared", () => {
      assert.deepEqual([...golden.keys()], Object.keys(cases));
    });
  });
}
