import { PR } from "#pkg/sys/constants.ts";
import { parseWaitStatus } from "#pkg/sys/exit-status.ts";
import { check, native, SYS } from "#pkg/sys/libc.ts";
import type { ProcessCalls } from "#pkg/sys/syscall.ts";

const pidfdOpen = native<(nr: number, pid: number, flags: number) => number>("syscall", "long", [
  "long",
  "int",
  "uint",
]);
const pidfdSendSignal = native<
  (nr: number, pidfd: number, signal: number, info: null, flags: number) => number
>("syscall", "long", ["long", "int", "int", "in", "uint"]);
const ioctl = native<(fd: number, request: number, argument: Buffer) => number>("ioctl", "int", [
  "int",
  "ulong",
  "out",
]);
const kill = native<(pid: number, signal: number) => number>("kill", "int", ["int", "int"]);
const waitpid = native<(pid: number, status: Buffer, options: number) => number>("waitpid", "int", [
  "int",
  "out",
  "int",
]);
const prctl = native<(option: number, a: number, b: number, c: number, d: number) => number>(
  "prctl",
  "int",
  ["int", "ulong", "ulong", "ulong", "ulong"],
);
const prctlOut = native<(option: number, a: Buffer, b: number, c: number, d: number) => number>(
  "prctl",
  "int",
  ["int", "out", "ulong", "ulong", "ulong"],
);
const prlimit = native<
  (pid: number, resource: number, limit: Buffer | null, old: Buffer) => number
>("prlimit", "int", ["int", "uint", "in", "out"]);
const setns = native<(fd: number, type: number) => number>("setns", "int", ["int", "int"]);
const unshare = native<(flags: number) => number>("unshare", "int", ["int"]);
const gettid = native<() => number>("gettid", "int", []);
const exit = native<(code: number) => number>("_exit", "int", ["int"]);

const WNOHANG = 1;

// _IOWR(0xff, 11, struct pidfd_info) with the 64 bytes of its first version: later kernels take any
// size.
const PIDFD_GET_INFO = 0xc040ff0b;
const PIDFD_INFO_SIZE = 64;
const PIDFD_INFO_PID = 1;
const PIDFD_INFO_EXIT = 8;

const word = Buffer.alloc(4);

export const processCalls: ProcessCalls = {
  pidfdOpen(pid) {
    return check(pidfdOpen(SYS.pidfdOpen, pid, 0), "pidfd_open");
  },
  pidfdSendSignal(pidfd, signal) {
    const result = pidfdSendSignal(SYS.pidfdSendSignal, pidfd, signal, null, 0);
    check(result, "pidfd_send_signal");
  },
  pidfdGetInfo(pidfd) {
    const info = Buffer.alloc(PIDFD_INFO_SIZE);
    info.writeBigUInt64LE(BigInt(PIDFD_INFO_PID | PIDFD_INFO_EXIT), 0);
    check(ioctl(pidfd, PIDFD_GET_INFO, info), "pidfd_get_info");
    const mask = info.readBigUInt64LE(0);
    const hasPid = (mask & BigInt(PIDFD_INFO_PID)) !== 0n;
    const hasExit = (mask & BigInt(PIDFD_INFO_EXIT)) !== 0n;
    return {
      pid: hasPid ? info.readUInt32LE(16) : 0,
      ppid: hasPid ? info.readUInt32LE(24) : 0,
      exit: hasExit ? parseWaitStatus(info.readInt32LE(60)) : undefined,
    };
  },
  kill(pid, signal) {
    check(kill(pid, signal), "kill");
  },
  waitpid(pid) {
    const reaped = check(waitpid(pid, word, WNOHANG), "waitpid");
    if (reaped === 0) return undefined;
    return { pid: reaped, status: parseWaitStatus(word.readInt32LE(0)) };
  },
  prctl(option, argument, third = 0, fourth = 0) {
    return check(prctl(option, argument, third, fourth, 0), "prctl");
  },
  setChildSubreaper(state) {
    check(prctl(PR.SET_CHILD_SUBREAPER, state === "on" ? 1 : 0, 0, 0, 0), "prctl");
  },
  isChildSubreaper() {
    check(prctlOut(PR.GET_CHILD_SUBREAPER, word, 0, 0, 0), "prctl");
    return word.readInt32LE(0) !== 0;
  },
  prlimit(pid, resource, limit) {
    const old = Buffer.alloc(16);
    let wanted: Buffer | null = null;
    if (limit !== undefined) {
      wanted = Buffer.alloc(16);
      wanted.writeBigUInt64LE(limit.soft, 0);
      wanted.writeBigUInt64LE(limit.hard, 8);
    }
    check(prlimit(pid, resource, wanted, old), "prlimit");
    return { soft: old.readBigUInt64LE(0), hard: old.readBigUInt64LE(8) };
  },
  setns(fd, type) {
    check(setns(fd, type), "setns");
  },
  unshare(flags) {
    check(unshare(flags), "unshare");
  },
  gettid() {
    return gettid();
  },
  exitGroup(code) {
    exit(code);
    throw new Error("the process goes on after its end");
  },
};
