import { release } from "node:os";
import { allowedCalls } from "#pkg/oci/seccomp-calls.ts";
import type { SeccompArgument, SeccompProfile, SeccompRule } from "#pkg/oci/linux-spec.ts";

const allow = "SCMP_ACT_ALLOW";
const AF_ALG = 38;
const AF_VSOCK = 40;
const ENOSYS = 38;

// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const newNamespaces = 0x7e020000;

/** Go's names of architectures, as in platforms. Others get a profile that names none. */
const architectures: Readonly<Record<string, readonly string[]>> = {
  amd64: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
  arm64: ["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"],
};

const ofArchitecture: Readonly<Record<string, string>> = {
  amd64: "arch_prctl modify_ldt",
  arm64: "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
};

/** What a capability gives back: without it the kernel would refuse anyway, or the call is too much. */
const ofCapability: Readonly<Record<string, string>> = {
  CAP_DAC_READ_SEARCH: "open_by_handle_at",
  CAP_SYS_ADMIN:
    "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount " +
    "mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname " +
    "sethostname setns syslog umount umount2 unshare",
  CAP_SYS_BOOT: "reboot",
  CAP_SYS_CHROOT: "chroot",
  CAP_SYS_MODULE: "delete_module init_module finit_module",
  CAP_SYS_PACCT: "acct",
  CAP_SYS_PTRACE: "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
  CAP_SYS_RAWIO: "iopl ioperm",
  CAP_SYS_TIME: "settimeofday stime clock_settime clock_settime64",
  CAP_SYS_TTY_CONFIG: "vhangup",
  CAP_SYS_NICE: "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
  CAP_SYSLOG: "syslog",
  CAP_BPF: "bpf",
  CAP_PERFMON: "perf_event_open",
};

/**
 * The seccomp profile of containers whose owner has none of their own: what is not named fails with
 * EPERM. Pure, so that the profile of another architecture can be made and looked at.
 *
 * `capabilities` are the container's bounding set: what a capability is for is let through with it.
 * `kernel` is a release as `uname -r` says it.
 */
export function defaultSeccompProfile(options: {
  readonly capabilities: readonly string[];
  readonly architecture: string;
  readonly kernel: string;
}): SeccompProfile {
  const { capabilities, architecture, kernel } = options;
  const given = capabilities.map((name) => ofCapability[name]);
  const isAdmin = capabilities.includes("CAP_SYS_ADMIN");
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    architectures: architectures[architecture] ?? [],
    syscalls: [
      { names: allowedCalls, action: allow },
      ...sockets,
      ...personalities,
      // From 4.8 on a tracer sees calls before seccomp does, and cannot change them afterwards.
      ...(isAtLeast(kernel, [4, 8]) ? named("process_vm_readv process_vm_writev ptrace") : []),
      ...named(ofArchitecture[architecture]),
      ...given.flatMap(named),
      ...(isAdmin ? [] : withoutNamespaces),
    ],
  };
}

/** The same for this host and a container with these capabilities. */
export function hostSeccompProfile(capabilities: readonly string[]): SeccompProfile {
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  return defaultSeccompProfile({ capabilities, architecture, kernel: release() });
}

// Each family by a rule of its own that lets it through. Rules that refuse AF_ALG and AF_VSOCK
// beside a wide permission are lost in libseccomp, which drops what a wider rule covers, and two
// conditions on one argument become two rules in runc. 46 and above are families nobody knows yet.
const sockets: readonly SeccompRule[] = [
  when("socket", { index: 0, value: AF_ALG, op: "SCMP_CMP_LT" }),
  when("socket", { index: 0, value: AF_ALG + 1, op: "SCMP_CMP_EQ" }),
  ...[1, 2, 3, 4, 5].map((more) =>
    when("socket", { index: 0, value: AF_VSOCK + more, op: "SCMP_CMP_EQ" }),
  ),
];

// Linux, Linux as 2.6 or with 32-bit addresses, both, and the question which it is.
const personalities: readonly SeccompRule[] = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff].map(
  (value) => when("personality", { index: 0, value, op: "SCMP_CMP_EQ" }),
);

const withoutNamespaces: readonly SeccompRule[] = [
  when("clone", { index: 0, value: newNamespaces, op: "SCMP_CMP_MASKED_EQ" }),
  // Its flags are in memory, where seccomp cannot look: programs fall back to clone on ENOSYS, and
  // give up on EPERM.
  { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: ENOSYS },
];

function when(name: string, argument: SeccompArgument): SeccompRule {
  return { names: [name], action: allow, args: [argument] };
}

function named(names: string | undefined): SeccompRule[] {
  return names === undefined ? [] : [{ names: names.split(" "), action: allow }];
}

function isAtLeast(kernel: string, [major, minor]: readonly [number, number]): boolean {
  const found = /^(\d+)\.(\d+)/.exec(kernel);
  if (!found) return false;
  const [x, y] = [Number(found[1]), Number(found[2])];
  return x > major || (x === major && y >= minor);
}
