import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { defaultCapabilities, knownCapabilities } from "./capabilities.ts";
import type { SeccompArgument, SeccompProfile } from "./linux-spec.ts";
import { defaultSeccompProfile } from "./seccomp-default.ts";

function profile(options: {
  capabilities?: readonly string[];
  architecture?: string;
  kernel?: string;
}) {
  return defaultSeccompProfile({
    capabilities: defaultCapabilities,
    architecture: "amd64",
    kernel: "6.1.0",
    ...options,
  });
}

/** What the kernel would do: a rule for the call whose arguments fit, else the default. */
function decide(given: SeccompProfile, call: string, ...args: number[]): string {
  const rules = given.syscalls?.filter(({ names }) => names.includes(call)) ?? [];
  const rule = rules.find((each) => (each.args ?? []).every((argument) => fits(argument, args)));
  return rule?.action ?? given.defaultAction;
}

function fits(
  { index, value, valueTwo = 0, op }: SeccompArgument,
  args: readonly number[],
): boolean {
  const [given, expected] = [BigInt(args[index] ?? 0), BigInt(value)];
  if (op === "SCMP_CMP_EQ") return given === expected;
  if (op === "SCMP_CMP_LT") return given < expected;
  if (op === "SCMP_CMP_MASKED_EQ") return (given & expected) === BigInt(valueTwo);
  throw new Error(`no such comparison: ${op}`);
}

const allowed = "SCMP_ACT_ALLOW";
const refused = "SCMP_ACT_ERRNO";

suite("default seccomp profile", () => {
  test("sockets of every known family but AF_ALG and AF_VSOCK are let through", () => {
    for (const architecture of ["amd64", "arm64"]) {
      const given = profile({ architecture });
      for (let family = 0; family < 64; family++) {
        const expected = family === 38 || family === 40 || family >= 46 ? refused : allowed;
        assert.equal(decide(given, "socket", family), expected, `${architecture} ${family}`);
      }
    }
  });

  test("each socket rule has one condition: runtimes make two rules of two", () => {
    for (const rule of profile({}).syscalls ?? []) {
      if (rule.names.includes("socket")) assert.equal(rule.args?.length, 1);
    }
  });

  test("new namespaces and mounts are for CAP_SYS_ADMIN", () => {
    const plain = profile({});
    assert.equal(decide(plain, "clone", 0x1200011), allowed);
    for (const flag of [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x40000000]) {
      assert.equal(decide(plain, "clone", flag), refused, flag.toString(16));
    }
    const clone3 = plain.syscalls?.find(({ names }) => names.includes("clone3"));
    assert.deepEqual([clone3?.action, clone3?.errnoRet], [refused, 38]);
    for (const call of ["mount", "unshare", "setns", "umount2", "bpf"]) {
      assert.equal(decide(plain, call), refused, call);
      const admin = profile({ capabilities: ["CAP_SYS_ADMIN"] });
      assert.equal(decide(admin, call), allowed, call);
    }
    assert.equal(decide(profile({ capabilities: ["CAP_SYS_ADMIN"] }), "clone", 0x20000), allowed);
  });

  for (const [capability, call] of [
    ["CAP_SYS_MODULE", "init_module"],
    ["CAP_SYS_TIME", "clock_settime"],
    ["CAP_SYS_NICE", "mbind"],
    ["CAP_BPF", "bpf"],
    ["CAP_PERFMON", "perf_event_open"],
    ["CAP_SYSLOG", "syslog"],
    ["CAP_SYS_CHROOT", "chroot"],
    ["CAP_SYS_PTRACE", "pidfd_getfd"],
    ["CAP_DAC_READ_SEARCH", "open_by_handle_at"],
  ] as const) {
    test(`${capability} gives ${call} back`, () => {
      assert.equal(decide(profile({ capabilities: [] }), call), refused);
      assert.equal(decide(profile({ capabilities: [capability] }), call), allowed);
    });
  }

  test("ptrace is let through from Linux 4.8 on", () => {
    for (const [kernel, expected] of [
      ["4.7.9-1", refused],
      ["4.8", allowed],
      ["5.0-rc1", allowed],
      ["unknown", refused],
    ] as const) {
      assert.equal(decide(profile({ kernel, capabilities: [] }), "ptrace"), expected, kernel);
    }
  });

  test("arm64 has its architectures and calls, x86-64 its own", () => {
    const arm = profile({ architecture: "arm64" });
    assert.deepEqual(arm.architectures, ["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"]);
    const x86 = profile({});
    assert.deepEqual(x86.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    for (const call of ["cacheflush", "set_tls", "arm_fadvise64_64", "sync_file_range2"]) {
      assert.deepEqual([decide(arm, call), decide(x86, call)], [allowed, refused], call);
    }
    for (const call of ["arch_prctl", "modify_ldt"]) {
      assert.deepEqual([decide(arm, call), decide(x86, call)], [refused, allowed], call);
    }
    assert.deepEqual(profile({ architecture: "riscv64" }).architectures, []);
  });

  test("personality is the usual ones'", () => {
    for (const value of [0, 8, 0x20000, 0x20008, 0xffffffff]) {
      assert.equal(decide(profile({}), "personality", value), allowed);
    }
    assert.equal(decide(profile({}), "personality", 0x40000), refused);
  });

  test("no capability takes anything away", () => {
    const all = fc.subarray([...knownCapabilities]);
    fc.assert(
      fc.property(all, fc.constantFrom(...knownCapabilities), (capabilities, more) => {
        const before = profile({ capabilities });
        const after = profile({ capabilities: [...capabilities, more] });
        const calls = before.syscalls?.flatMap(({ names }) => names) ?? [];
        for (const call of calls) {
          if (decide(before, call, 0) === allowed) assert.equal(decide(after, call, 0), allowed);
        }
      }),
      { numRuns: 20 },
    );
  });
});
