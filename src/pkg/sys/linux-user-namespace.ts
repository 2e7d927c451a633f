import { openSync, writeFileSync } from "node:fs";
import { CLONE } from "#pkg/sys/constants.ts";
import { isErrnoName, SyscallError } from "#pkg/sys/errno.ts";
import { address, check, holding, native } from "#pkg/sys/libc.ts";
import type { UserNamespaceCalls } from "#pkg/sys/syscall.ts";

const clone = native<(fn: number, stack: number, flags: number, argument: number) => number>(
  "clone",
  "int",
  ["ulong", "ulong", "int", "ulong"],
);
const dlsym = native<(handle: null, name: string) => number>("dlsym", "ulong", ["in", "in"]);
const kill = native<(pid: number, signal: number) => number>("kill", "int", ["int", "int"]);
const waitpid = native<(pid: number, status: null, options: number) => number>("waitpid", "int", [
  "int",
  "out",
  "int",
]);

const ioctl = native<(fd: number, request: number) => number>("ioctl", "int", ["int", "ulong"]);

const NS_GET_USERNS = 0xb701;
const SIGKILL = 9;
/** Also children that end without a signal. */
const WALL = 0x40000000;
const stackBytes = 64 << 10;
/** Only if we are killed before we kill it. */
const childSeconds = 5;

/**
 * A child in a user namespace of its own. Node has threads and so cannot enter one itself, nor can
 * JavaScript go on in a fork: the child runs a function of the C library, on a stack of its own.
 *
 * It is no fork as others: it shares the descriptors, so that none is held open by a copy, and its
 * end sends no signal, so that no reaper takes it for one of its own.
 */
function startChild(): number {
  const fn = dlsym(null, "sleep");
  if (fn === 0) throw new SyscallError("ENOSYS", "clone");
  const stack = Buffer.alloc(stackBytes);
  const top = (address(stack) + BigInt(stackBytes)) & ~15n;
  const flags = CLONE.NEWUSER | CLONE.FILES;
  return holding([stack], () => check(clone(fn, Number(top), flags, childSeconds), "clone"));
}

/** Node's errors of a file as those of the other calls. */
function translated<T>(path: string, use: (path: string) => T): T {
  try {
    return use(path);
  } catch (error) {
    if (!(error instanceof Error) || !("code" in error)) throw error;
    const { code } = error;
    if (typeof code !== "string" || !isErrnoName(code)) throw error;
    throw new SyscallError(code, "open_user_namespace", path);
  }
}

export const userNamespaceCalls: UserNamespaceCalls = {
  openUserNamespace(uidMap, gidMap) {
    const pid = startChild();
    try {
      translated(`/proc/${pid}/uid_map`, (path) => writeFileSync(path, uidMap));
      translated(`/proc/${pid}/gid_map`, (path) => writeFileSync(path, gidMap));
      return translated(`/proc/${pid}/ns/user`, (path) => openSync(path, "r"));
    } finally {
      kill(pid, SIGKILL);
      waitpid(pid, null, WALL);
    }
  },
  openOwningUserNamespace(namespace) {
    return check(ioctl(namespace, NS_GET_USERNS), "ns_get_userns");
  },
};
