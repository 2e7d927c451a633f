import { accessSync, constants, readdirSync } from "node:fs";
import { resolve } from "node:path";

import { AT, RLIMIT } from "#pkg/sys/constants.ts";
import { errnoName, isErrnoName, SyscallError } from "#pkg/sys/errno.ts";
import { address, type CPath, cPath, hasNative, holding, native } from "#pkg/sys/libc.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Fd } from "#pkg/sys/syscall.ts";

export interface SpawnOptions {
  /** The program itself; PATH is not searched. Relative to `cwd`. */
  readonly path: string;
  /** All of it, argv[0] too. */
  readonly argv: readonly string[];
  /** The whole environment: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: the directory of this process. */
  readonly cwd?: string;
  /**
   * Descriptor `i` of the child is `fds[i]` of ours, which stays open here. The child has no
   * others.
   */
  readonly fds: readonly Fd[];
  /** A session of its own, without a controlling terminal. */
  readonly setsid?: boolean;
  /** A process group of its own, led by the child. */
  readonly setpgid?: boolean;
  /**
   * Default true: no signal blocked, none ignored. Otherwise Node's own state (SIGPIPE ignored) is
   * inherited.
   */
  readonly resetSignals?: boolean;
  /**
   * The soft RLIMIT_NOFILE of the child: what this process had before Node raised it, which `bin/*`
   * leave in `CONTAINERD_NOFILE_SOFT`. Bounded by the hard limit. Default: inherited, raised.
   */
  readonly nofileSoft?: number;
}

/**
 * Starts a program, without copying page tables: about 0.2 ms of the event loop whatever the heap.
 *
 * Throws a `SyscallError` (`fork/exec /x: no such file or directory`) when it cannot be started.
 * The child is a zombie after its end until somebody waits: `Reaper.wait(pid)`.
 *
 * What a child inherits and Node might have changed:
 * - signal mask and dispositions: reset, see `resetSignals`;
 * - RLIMIT_NOFILE: see `nofileSoft`; Node touches no other limit;
 * - descriptors: everything above `fds` is closed in the child, close-on-exec or not;
 * - umask: inherited. It belongs to the whole process, other threads included, so it cannot be set
 *   for one spawn: the daemon and the supervisor keep the one they were started with, and give
 *   exact modes with fchmod;
 * - oom_score_adj, nice, affinity, I/O class, session keyring, capabilities, no_new_privs:
 *   inherited; Node changes none of them. Where the daemon adjusts its own score, the child has the
 *   adjusted one unless its runtime writes another;
 * - PDEATHSIG: never inherited, and not settable here; see the creation marker of the bundle.
 */
export type SpawnProcess = (options: SpawnOptions) => { readonly pid: number };

type AttrCall = (attr: Buffer, argument: Buffer) => number;

const attrInit = native<(attr: Buffer) => number>("posix_spawnattr_init", "int", ["out"]);
const attrSetMask = native<AttrCall>("posix_spawnattr_setsigmask", "int", ["out", "in"]);
const attrSetDefault = native<AttrCall>("posix_spawnattr_setsigdefault", "int", ["out", "in"]);
const attrSetFlags = native<(attr: Buffer, flags: number) => number>(
  "posix_spawnattr_setflags",
  "int",
  ["out", "int"],
);
const actionsInit = native<(actions: Buffer) => number>("posix_spawn_file_actions_init", "int", [
  "out",
]);
const actionsDestroy = native<(actions: Buffer) => number>(
  "posix_spawn_file_actions_destroy",
  "int",
  ["out"],
);
const addDup2 = native<(actions: Buffer, fd: number, target: number) => number>(
  "posix_spawn_file_actions_adddup2",
  "int",
  ["out", "int", "int"],
);
const addChdir = native<(actions: Buffer, path: CPath) => number>(
  "posix_spawn_file_actions_addchdir_np",
  "int",
  ["out", "in"],
);
const closeFromName = "posix_spawn_file_actions_addclosefrom_np";
const addCloseFrom = hasNative(closeFromName)
  ? native<(actions: Buffer, from: number) => number>(closeFromName, "int", ["out", "int"])
  : undefined;
const posixSpawn = native<
  (pid: Buffer, path: CPath, actions: Buffer, attr: Buffer, argv: Buffer, envp: Buffer) => number
>("posix_spawn", "int", ["out", "in", "in", "in", "in", "in"]);

// sizeof posix_spawn_file_actions_t, posix_spawnattr_t and sigset_t: alike in glibc and musl,
// x86-64 and arm64.
const ACTIONS_SIZE = 80;
const ATTR_SIZE = 336;
const SIGSET_SIZE = 128;

const SETPGROUP = 0x02;
const SETSIGDEF = 0x04;
const SETSIGMASK = 0x08;
const SETSID = 0x80;

const SYSCALL = "fork/exec";

function checkRc(rc: number, path: string): void {
  if (rc !== 0) throw new SyscallError(errnoName(rc), SYSCALL, path);
}

/** A NULL-terminated vector of C strings. `bytes` must outlive its use. */
function vector(list: readonly string[], path: string): { pointers: Buffer; bytes: Buffer } {
  for (const text of list) {
    if (text.includes("\0")) throw new SyscallError("EINVAL", SYSCALL, path);
  }
  const bytes = Buffer.from(list.map((text) => `${text}\0`).join(""));
  const pointers = Buffer.alloc((list.length + 1) * 8);
  const start = address(bytes);
  let offset = 0;
  for (const [i, text] of list.entries()) {
    pointers.writeBigUInt64LE(start + BigInt(offset), i * 8);
    offset += Buffer.byteLength(text) + 1;
  }
  return { pointers, bytes };
}

function attributes(options: SpawnOptions): Buffer {
  const attr = Buffer.alloc(ATTR_SIZE);
  attrInit(attr);
  let flags = 0;
  if (options.resetSignals ?? true) {
    attrSetMask(attr, Buffer.alloc(SIGSET_SIZE));
    attrSetDefault(attr, Buffer.alloc(SIGSET_SIZE, 0xff));
    flags |= SETSIGMASK | SETSIGDEF;
  }
  if (options.setpgid === true) flags |= SETPGROUP;
  if (options.setsid === true) flags |= SETSID;
  checkRc(attrSetFlags(attr, flags), options.path);
  return attr;
}

/**
 * Sources below `fds.length` would be overwritten by an earlier dup2, and a dup2 onto itself keeps
 * close-on-exec: they go through a duplicate above.
 */
function aboveTargets(fds: readonly Fd[], stack: DisposableStack): Fd[] {
  return fds.map((fd) => {
    if (fd >= fds.length) return fd;
    const high = linux.dup(fd, fds.length);
    stack.defer(() => linux.close(high));
    return high;
  });
}

function spawnRaw(options: SpawnOptions): { pid: number } {
  const { path, fds, cwd } = options;
  using stack = new DisposableStack();
  const actions = Buffer.alloc(ACTIONS_SIZE);
  checkRc(actionsInit(actions), path);
  stack.defer(() => actionsDestroy(actions));
  for (const [target, fd] of aboveTargets(fds, stack).entries()) {
    checkRc(addDup2(actions, fd, target), path);
  }
  if (cwd !== undefined) checkRc(addChdir(actions, cPath(cwd, SYSCALL)), path);
  if (addCloseFrom !== undefined) checkRc(addCloseFrom(actions, fds.length), path);
  else linux.closeOnExecRange(3, 0xffffffff);
  const attr = attributes(options);
  const argv = vector(options.argv, path);
  const env = vector(
    Object.entries(options.env).map(([key, value]) => `${key}=${value}`),
    path,
  );
  const pid = Buffer.alloc(4);
  const program = cPath(path, SYSCALL);
  const rc = holding([argv.bytes, env.bytes], () =>
    posixSpawn(pid, program, actions, attr, argv.pointers, env.pointers),
  );
  checkRc(rc, path);
  return { pid: pid.readInt32LE(0) };
}

/**
 * Room for what other threads may open while our own limit is lowered, which is less than a
 * millisecond.
 */
const descriptorsSpare = 256;

/**
 * How many descriptors are open. Linux before 6.2 does not tell by a stat, there they are listed.
 */
function countDescriptors(): number {
  const { sizeBytes } = linux.fstatat(AT.FDCWD, "/proc/self/fd", 0);
  return sizeBytes > 0 ? sizeBytes : readdirSync("/proc/self/fd").length;
}

/**
 * Through a shell that lowers its own limit: for when this process holds too many descriptors to
 * lower its own. The program's argv[0] is its path then, since a shell cannot give another.
 */
function spawnLowered(options: SpawnOptions, soft: number): { pid: number } {
  // The shell would search PATH for a name without a slash.
  const program = resolve(options.cwd ?? "", options.path);
  try {
    accessSync(program, constants.X_OK);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "EACCES";
    throw new SyscallError(isErrnoName(code) ? code : "EACCES", SYSCALL, options.path);
  }
  const script = 'ulimit -Sn "$0" && exec "$@"';
  const argv = ["sh", "-c", script, String(soft), program, ...options.argv.slice(1)];
  return spawnRaw({ ...options, path: "/bin/sh", argv });
}

/**
 * posix_spawn has no attribute for limits, and a prlimit of the child after its start would race
 * with the program, which reads them first of all (Go's runtime does). So our own soft limit is
 * lowered around the call, which is synchronous: no JavaScript of this thread runs in between.
 * Threads of libuv and workers may: an open there fails with EMFILE if its number reached the
 * lowered limit, and numbers are handed out from below. Hence only when enough below are free.
 */
export const spawnProcess: SpawnProcess = (options) => {
  if (options.nofileSoft === undefined) return spawnRaw(options);
  const own = linux.prlimit(0, RLIMIT.NOFILE);
  const wanted = BigInt(options.nofileSoft);
  const soft = wanted < own.hard ? wanted : own.hard;
  if (soft === own.soft) return spawnRaw(options);
  if (soft < own.soft && BigInt(countDescriptors() + descriptorsSpare) > soft) {
    return spawnLowered(options, Number(soft));
  }
  linux.prlimit(0, RLIMIT.NOFILE, { soft, hard: own.hard });
  try {
    return spawnRaw(options);
  } finally {
    linux.prlimit(0, RLIMIT.NOFILE, own);
  }
};
