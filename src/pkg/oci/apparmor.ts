import { access, readFile } from "node:fs/promises";
import { join } from "node:path/posix";
import { invalidArgument, isErrno } from "#pkg/errors.ts";

/** What a profile refers to, which differs between hosts. */
export interface ApparmorHost {
  /** Profile of who may send signals to the containers; `unconfined` where it has none. */
  readonly daemonProfile: string;
  /** Which of `abi/3.0`, `tunables/global` and `abstractions/base` are installed. */
  readonly includes: readonly string[];
}

/**
 * The text of the default profile: everything but mounting and writing to what is the kernel's.
 * Seccomp and capabilities do the rest.
 *
 * Throws `invalid-argument` for a name that would not stay one word of that text.
 */
export function defaultApparmorProfile(name: string, host: ApparmorHost): string {
  if (!/^[A-Za-z0-9_.:/+-]{1,255}$/.test(name)) {
    throw invalidArgument(`AppArmor profile name ${JSON.stringify(name.slice(0, 100))}`);
  }
  const has = (path: string): boolean => host.includes.includes(path);
  return `${has("abi/3.0") ? "abi <abi/3.0>,\n" : ""}
${has("tunables/global") ? "#include <tunables/global>" : "@{PROC}=/proc/"}

profile ${name} flags=(attach_disconnected,mediate_deleted) {
${has("abstractions/base") ? "  #include <abstractions/base>\n" : ""}
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (receive) peer=${host.daemonProfile},
  signal (send,receive) peer=${name},

  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  ptrace (trace,tracedby,read,readby) peer=${name},
}
`;
}

/**
 * True where the kernel enforces AppArmor and there is a program to load profiles with.
 *
 * `root` is that of the host.
 */
export async function hostHasApparmor(root = "/"): Promise<boolean> {
  const enabled = await textOf(join(root, "sys/module/apparmor/parameters/enabled"));
  return (
    enabled?.startsWith("Y") === true &&
    (await exists(join(root, "sys/kernel/security/apparmor"))) &&
    (await exists(join(root, "sbin/apparmor_parser")))
  );
}

/** Whether the kernel has a profile of that name. */
export async function isProfileLoaded(name: string, root = "/"): Promise<boolean> {
  const profiles = await textOf(join(root, "sys/kernel/security/apparmor/profiles"));
  return profiles?.split("\n").some((line) => line.startsWith(`${name} `)) ?? false;
}

export async function readApparmorHost(root = "/"): Promise<ApparmorHost> {
  const known = ["abi/3.0", "tunables/global", "abstractions/base"];
  const there = await Promise.all(known.map((path) => exists(join(root, "etc/apparmor.d", path))));
  // `name (enforce)`; names of profiles have no spaces.
  const current = (await textOf(join(root, "proc/self/attr/current")))?.trim().split(" ", 1)[0];
  return {
    daemonProfile: current === undefined || current === "" ? "unconfined" : current,
    includes: known.filter((_, i) => there[i]),
  };
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    // EINVAL is what the kernel answers for a process's profile where no LSM has any.
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES", "EINVAL")) return undefined;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return false;
    throw error;
  }
}
