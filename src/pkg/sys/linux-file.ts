import { AT, O, S_IF } from "#pkg/sys/constants.ts";
import { check, type CPath, cPath, isLastErrno, lastError, native, SYS } from "#pkg/sys/libc.ts";
import { chmodUnfollowed } from "#pkg/sys/chmod-unfollowed.ts";
import type { Device, FileCalls, FileTimes } from "#pkg/sys/syscall.ts";
import { descriptorCalls } from "#pkg/sys/linux-descriptor.ts";
import { readStatfs, readStatx, STATX_SIZE, STATX_WANTED } from "#pkg/sys/linux-stat.ts";

type AtCall = (dirFd: number, path: CPath, argument: number) => number;
type TwoPathCall = (fromFd: number, from: CPath, toFd: number, to: CPath, flags: number) => number;
type FdCall = (fd: number) => number;

const mknodat = native<(dirFd: number, path: CPath, mode: number, dev: bigint) => number>(
  "mknodat",
  "int",
  ["int", "in", "uint", "uint64"],
);
const utimensat = native<(dirFd: number, path: CPath, times: Buffer, flags: number) => number>(
  "utimensat",
  "int",
  ["int", "in", "in", "int"],
);
const futimens = native<(fd: number, times: Buffer) => number>("futimens", "int", ["int", "in"]);
const fchownat = native<
  (dirFd: number, path: CPath, uid: number, gid: number, flags: number) => number
>("fchownat", "int", ["int", "in", "uint", "uint", "int"]);
const fchown = native<(fd: number, uid: number, gid: number) => number>("fchown", "int", [
  "int",
  "uint",
  "uint",
]);
const fchmodat = native<(dirFd: number, path: CPath, mode: number, flags: number) => number>(
  "fchmodat",
  "int",
  ["int", "in", "uint", "int"],
);
const fchmod = native<(fd: number, mode: number) => number>("fchmod", "int", ["int", "uint"]);
const openat = native<(dirFd: number, path: CPath, flags: number, mode: number) => number>(
  "openat",
  "int",
  ["int", "in", "int", "uint"],
);
const openat2 = native<
  (nr: number, dirFd: number, path: CPath, how: Buffer, size: number) => number
>("syscall", "long", ["long", "int", "in", "in", "size"]);
const mkdirat = native<AtCall>("mkdirat", "int", ["int", "in", "uint"]);
const unlinkat = native<AtCall>("unlinkat", "int", ["int", "in", "int"]);
const renameat2 = native<TwoPathCall>("renameat2", "int", ["int", "in", "int", "in", "uint"]);
const linkat = native<TwoPathCall>("linkat", "int", ["int", "in", "int", "in", "int"]);
const symlinkat = native<(target: CPath, dirFd: number, path: CPath) => number>(
  "symlinkat",
  "int",
  ["in", "int", "in"],
);
const readlinkat = native<(dirFd: number, path: CPath, buffer: Buffer, size: number) => number>(
  "readlinkat",
  "long",
  ["int", "in", "out", "size"],
);
const statx = native<
  (dirFd: number, path: CPath, flags: number, mask: number, result: Buffer) => number
>("statx", "int", ["int", "in", "int", "uint", "out"]);
const statfs = native<(path: CPath, result: Buffer) => number>("statfs", "int", ["in", "out"]);
const fstatfs = native<(fd: number, result: Buffer) => number>("fstatfs", "int", ["int", "out"]);
const syncfs = native<FdCall>("syncfs", "int", ["int"]);
const fsync = native<FdCall>("fsync", "int", ["int"]);
const fdatasync = native<FdCall>("fdatasync", "int", ["int"]);
const ioctl = native<(fd: number, request: number, argument: number) => number>("ioctl", "int", [
  "int",
  "ulong",
  "long",
]);
const copyFileRange = native<
  (inFd: number, i: null, outFd: number, o: null, length: number, flags: number) => number
>("copy_file_range", "long", ["int", "out", "int", "out", "size", "uint"]);
const lseek = native<(fd: number, offset: number, whence: number) => number>("lseek", "long", [
  "int",
  "long",
  "int",
]);
const flock = native<(fd: number, operation: number) => number>("flock", "int", ["int", "int"]);
const umask = native<(mask: number) => number>("umask", "uint", ["uint"]);

const EINTR = 4;
const ENOTSUP = 95;
const EAGAIN = 11;
const FICLONE = 0x40049409;
const openat2TriesMax = 64;
const pathMaxBytes = 4096;

// Results are read out before any other call can be made on this thread, so one buffer each is
// enough.
const statxBuffer = Buffer.alloc(STATX_SIZE);
const statfsBuffer = Buffer.alloc(256);
const linkBuffer = Buffer.alloc(pathMaxBytes);
const timesBuffer = Buffer.alloc(32);
const howBuffer = Buffer.alloc(24);

function makeDev({ major, minor }: Device): bigint {
  const [a, b] = [BigInt(major), BigInt(minor)];
  return ((a & ~0xfffn) << 32n) | ((a & 0xfffn) << 8n) | ((b & ~0xffn) << 12n) | (b & 0xffn);
}

const UTIME_OMIT = 0x3ffffffen;

function writeTime(ns: bigint | undefined, offset: number): void {
  if (ns === undefined) {
    timesBuffer.writeBigInt64LE(0n, offset);
    timesBuffer.writeBigInt64LE(UTIME_OMIT, offset + 8);
    return;
  }
  const rest = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  timesBuffer.writeBigInt64LE((ns - rest) / 1_000_000_000n, offset);
  timesBuffer.writeBigInt64LE(rest, offset + 8);
}

function timespecs({ atimeNs, mtimeNs }: FileTimes): Buffer {
  writeTime(atimeNs, 0);
  writeTime(mtimeNs, 16);
  return timesBuffer;
}

function retry(call: () => number): number {
  for (;;) {
    const result = call();
    if (result >= 0 || !isLastErrno(EINTR)) return result;
  }
}

export const fileCalls: FileCalls = {
  mknodat(dirFd, path, mode, device) {
    check(mknodat(dirFd, cPath(path, "mknod"), mode, makeDev(device)), "mknod", path);
  },
  mknod(path, mode, device) {
    fileCalls.mknodat(AT.FDCWD, path, mode, device);
  },
  mkfifo(path, mode) {
    check(mknodat(AT.FDCWD, cPath(path, "mkfifo"), S_IF.IFO | mode, 0n), "mkfifo", path);
  },
  utimensat(dirFd, path, times, flags) {
    const name = cPath(path, "utimensat");
    check(utimensat(dirFd, name, timespecs(times), flags), "utimensat", path);
  },
  futimens(fd, times) {
    check(futimens(fd, timespecs(times)), "futimens");
  },
  lchown(path, uid, gid) {
    const name = cPath(path, "lchown");
    check(fchownat(AT.FDCWD, name, uid, gid, AT.SYMLINK_NOFOLLOW), "lchown", path);
  },
  fchownat(dirFd, path, { uid, gid }, flags) {
    check(fchownat(dirFd, cPath(path, "fchownat"), uid, gid, flags), "fchownat", path);
  },
  fchown(fd, uid, gid) {
    check(fchown(fd, uid, gid), "fchown");
  },
  fchmodat(dirFd, path, mode, flags) {
    const result = fchmodat(dirFd, cPath(path, "fchmodat"), mode, flags);
    const refused = result < 0 && flags === AT.SYMLINK_NOFOLLOW && isLastErrno(ENOTSUP);
    if (refused) chmodUnfollowed({ ...fileCalls, ...descriptorCalls }, dirFd, path, mode);
    else check(result, "fchmodat", path);
  },
  fchmod(fd, mode) {
    check(fchmod(fd, mode), "fchmod");
  },
  openat(dirFd, path, flags, mode = 0) {
    const name = cPath(path, "openat");
    const result = retry(() => openat(dirFd, name, flags | O.CLOEXEC, mode));
    return check(result, "openat", path);
  },
  openat2(dirFd, path, { flags, mode = 0, resolve = 0 }) {
    const name = cPath(path, "openat2");
    howBuffer.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), 0);
    howBuffer.writeBigUInt64LE(BigInt(mode), 8);
    howBuffer.writeBigUInt64LE(BigInt(resolve), 16);
    for (let tries = 1; ; tries++) {
      const fd = openat2(SYS.openat2, dirFd, name, howBuffer, howBuffer.length);
      if (fd >= 0) return fd;
      const again = isLastErrno(EAGAIN) || isLastErrno(EINTR);
      if (!again || tries >= openat2TriesMax) throw lastError("openat2", path);
    }
  },
  mkdirat(dirFd, path, mode) {
    check(mkdirat(dirFd, cPath(path, "mkdirat"), mode), "mkdirat", path);
  },
  unlinkat(dirFd, path, flags) {
    check(unlinkat(dirFd, cPath(path, "unlinkat"), flags), "unlinkat", path);
  },
  renameat2(from, to, flags) {
    const [source, target] = [cPath(from.path, "rename"), cPath(to.path, "rename")];
    check(renameat2(from.dirFd, source, to.dirFd, target, flags), "rename", to.path);
  },
  linkat(from, to, flags) {
    const [source, target] = [cPath(from.path, "link"), cPath(to.path, "link")];
    check(linkat(from.dirFd, source, to.dirFd, target, flags), "link", to.path);
  },
  symlinkat(target, dirFd, path) {
    const result = symlinkat(cPath(target, "symlink"), dirFd, cPath(path, "symlink"));
    check(result, "symlink", path);
  },
  readlinkat(dirFd, path) {
    const name = cPath(path, "readlink");
    const size = check(readlinkat(dirFd, name, linkBuffer, pathMaxBytes), "readlink", path);
    return Buffer.from(linkBuffer.subarray(0, size));
  },
  fstatat(dirFd, path, flags) {
    const name = cPath(path, "fstatat");
    check(statx(dirFd, name, flags, STATX_WANTED, statxBuffer), "fstatat", path);
    return readStatx(statxBuffer);
  },
  statfs(path) {
    check(statfs(cPath(path, "statfs"), statfsBuffer), "statfs", path);
    return readStatfs(statfsBuffer);
  },
  fstatfs(fd) {
    check(fstatfs(fd, statfsBuffer), "fstatfs");
    return readStatfs(statfsBuffer);
  },
  syncfs(fd) {
    check(syncfs(fd), "syncfs");
  },
  fsync(fd) {
    check(fsync(fd), "fsync");
  },
  fdatasync(fd) {
    check(fdatasync(fd), "fdatasync");
  },
  ficlone(destination, source) {
    check(ioctl(destination, FICLONE, source), "ficlone");
  },
  copyFileRange(source, destination, lengthBytes) {
    const result = copyFileRange(source, null, destination, null, lengthBytes, 0);
    return check(result, "copy_file_range");
  },
  lseek(fd, offset, whence) {
    return check(lseek(fd, offset, whence), "lseek");
  },
  flock(fd, operation) {
    check(
      retry(() => flock(fd, operation)),
      "flock",
    );
  },
  umask(mask) {
    return umask(mask);
  },
};
