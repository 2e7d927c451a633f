import { check, type CPath, cPath, isLastErrno, lastError, native } from "#pkg/sys/libc.ts";
import type { Path, XattrCalls } from "#pkg/sys/syscall.ts";

type SetByPath = (path: CPath, name: CPath, value: Buffer, size: number, flags: number) => number;
type SetByFd = (fd: number, name: CPath, value: Buffer, size: number, flags: number) => number;

const lsetxattr = native<SetByPath>("lsetxattr", "int", ["in", "in", "in", "size", "int"]);
const fsetxattr = native<SetByFd>("fsetxattr", "int", ["int", "in", "in", "size", "int"]);
const lgetxattr = native<(path: CPath, name: CPath, value: Buffer, size: number) => number>(
  "lgetxattr",
  "long",
  ["in", "in", "out", "size"],
);
const fgetxattr = native<(fd: number, name: CPath, value: Buffer, size: number) => number>(
  "fgetxattr",
  "long",
  ["int", "in", "out", "size"],
);
const llistxattr = native<(path: CPath, list: Buffer, size: number) => number>(
  "llistxattr",
  "long",
  ["in", "out", "size"],
);
const flistxattr = native<(fd: number, list: Buffer, size: number) => number>(
  "flistxattr",
  "long",
  ["int", "out", "size"],
);
const lremovexattr = native<(path: CPath, name: CPath) => number>("lremovexattr", "int", [
  "in",
  "in",
]);
const fremovexattr = native<(fd: number, name: CPath) => number>("fremovexattr", "int", [
  "int",
  "in",
]);

const ENODATA = 61;

// XATTR_SIZE_MAX and XATTR_LIST_MAX are both 64 KiB, so no call ever needs a second try with more
// room.
const scratch = Buffer.alloc(65536);

function taken(size: number, syscall: string, path?: Path): Buffer | undefined {
  if (size >= 0) return Buffer.from(scratch.subarray(0, size));
  if (isLastErrno(ENODATA)) return undefined;
  throw lastError(syscall, path);
}

function names(size: number): Buffer[] {
  const list: Buffer[] = [];
  for (let start = 0; start < size; ) {
    const end = scratch.indexOf(0, start);
    list.push(Buffer.from(scratch.subarray(start, end)));
    start = end + 1;
  }
  return list;
}

export const xattrCalls: XattrCalls = {
  lsetxattr(path, name, value, flags = 0) {
    const [file, key] = [cPath(path, "lsetxattr"), cPath(name, "lsetxattr")];
    check(lsetxattr(file, key, value, value.length, flags), "lsetxattr", path);
  },
  lgetxattr(path, name) {
    const [file, key] = [cPath(path, "lgetxattr"), cPath(name, "lgetxattr")];
    return taken(lgetxattr(file, key, scratch, scratch.length), "lgetxattr", path);
  },
  llistxattr(path) {
    const file = cPath(path, "llistxattr");
    return names(check(llistxattr(file, scratch, scratch.length), "llistxattr", path));
  },
  lremovexattr(path, name) {
    const [file, key] = [cPath(path, "lremovexattr"), cPath(name, "lremovexattr")];
    check(lremovexattr(file, key), "lremovexattr", path);
  },
  fsetxattr(fd, name, value, flags = 0) {
    const key = cPath(name, "fsetxattr");
    check(fsetxattr(fd, key, value, value.length, flags), "fsetxattr");
  },
  fgetxattr(fd, name) {
    const key = cPath(name, "fgetxattr");
    return taken(fgetxattr(fd, key, scratch, scratch.length), "fgetxattr");
  },
  flistxattr(fd) {
    return names(check(flistxattr(fd, scratch, scratch.length), "flistxattr"));
  },
  fremovexattr(fd, name) {
    check(fremovexattr(fd, cPath(name, "fremovexattr")), "fremovexattr");
  },
};
