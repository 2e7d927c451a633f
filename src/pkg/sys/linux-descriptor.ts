import { O } from "#pkg/sys/constants.ts";
import { check, native, SYS, type CPath } from "#pkg/sys/libc.ts";
import type { DescriptorCalls } from "#pkg/sys/syscall.ts";

type Control = (fd: number, command: number, argument: number) => number;

const close = native<(fd: number) => number>("close", "int", ["int"]);
const dup3 = native<(fd: number, target: number, flags: number) => number>("dup3", "int", [
  "int",
  "int",
  "int",
]);
const pipe2 = native<(fds: Buffer, flags: number) => number>("pipe2", "int", ["out", "int"]);
const eventfd = native<(initial: number, flags: number) => number>("eventfd", "int", [
  "uint",
  "int",
]);
const fcntl = native<Control>("fcntl", "int", ["int", "int", "long"]);
const ioctl = native<(fd: number, request: number, argument: Buffer) => number>("ioctl", "int", [
  "int",
  "ulong",
  "out",
]);
const open = native<(path: CPath, flags: number, mode: number) => number>("open", "int", [
  "in",
  "int",
  "uint",
]);
const closeRange = native<(nr: number, first: number, last: number, flags: number) => number>(
  "syscall",
  "long",
  ["long", "uint", "uint", "uint"],
);

const F = {
  GETFD: 1,
  SETFD: 2,
  GETFL: 3,
  SETFL: 4,
  DUPFD_CLOEXEC: 1030,
  SETPIPE_SZ: 1031,
  GETPIPE_SZ: 1032,
} as const;
const FD_CLOEXEC = 1;
const CLOSE_RANGE_CLOEXEC = 4;
const TIOCGWINSZ = 0x5413;
const TIOCSWINSZ = 0x5414;
const TIOCSPTLCK = 0x40045431;
const TIOCGPTN = 0x80045430;

export const descriptorCalls: DescriptorCalls = {
  close(fd) {
    check(close(fd), "close");
  },
  dup(fd, minFd = 0) {
    return check(fcntl(fd, F.DUPFD_CLOEXEC, minFd), "dup");
  },
  dup3(fd, target) {
    check(dup3(fd, target, O.CLOEXEC), "dup3");
  },
  pipe2(flags) {
    const fds = Buffer.alloc(8);
    check(pipe2(fds, flags | O.CLOEXEC), "pipe2");
    return { read: fds.readInt32LE(0), write: fds.readInt32LE(4) };
  },
  eventfd(initial, flags) {
    return check(eventfd(initial, flags | O.CLOEXEC), "eventfd");
  },
  getStatusFlags(fd) {
    return check(fcntl(fd, F.GETFL, 0), "fcntl");
  },
  setStatusFlags(fd, flags) {
    check(fcntl(fd, F.SETFL, flags), "fcntl");
  },
  isCloseOnExec(fd) {
    return (check(fcntl(fd, F.GETFD, 0), "fcntl") & FD_CLOEXEC) !== 0;
  },
  setCloseOnExec(fd, state) {
    check(fcntl(fd, F.SETFD, state === "on" ? FD_CLOEXEC : 0), "fcntl");
  },
  getPipeSize(fd) {
    return check(fcntl(fd, F.GETPIPE_SZ, 0), "fcntl");
  },
  setPipeSize(fd, sizeBytes) {
    return check(fcntl(fd, F.SETPIPE_SZ, sizeBytes), "fcntl");
  },
  getWindowSize(tty) {
    const size = Buffer.alloc(8);
    check(ioctl(tty, TIOCGWINSZ, size), "ioctl");
    return { rows: size.readUInt16LE(0), columns: size.readUInt16LE(2) };
  },
  setWindowSize(tty, { rows, columns }) {
    const size = Buffer.alloc(8);
    size.writeUInt16LE(rows, 0);
    size.writeUInt16LE(columns, 2);
    check(ioctl(tty, TIOCSWINSZ, size), "ioctl");
  },
  openPty() {
    const flags = O.RDWR | O.NOCTTY | O.CLOEXEC;
    const master = check(open("/dev/ptmx", flags, 0), "open", "/dev/ptmx");
    try {
      const word = Buffer.alloc(4);
      check(ioctl(master, TIOCSPTLCK, word), "unlockpt");
      check(ioctl(master, TIOCGPTN, word), "ptsname");
      return { master, path: `/dev/pts/${word.readUInt32LE(0)}` };
    } catch (error) {
      close(master);
      throw error;
    }
  },
  closeOnExecRange(first, last) {
    check(closeRange(SYS.closeRange, first, last, CLOSE_RANGE_CLOEXEC), "close_range");
  },
};
