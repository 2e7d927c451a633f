import assert from "node:assert/strict";
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";

import { AT, LOCK, O, RENAME, RESOLVE, S_IF, SEEK } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";

let dir = "";
let dirFd = -1;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sys-file-"));
  dirFd = linux.openat(AT.FDCWD, dir, O.PATH | O.DIRECTORY);
});

afterEach(() => {
  linux.close(dirFd);
  rmSync(dir, { recursive: true });
});

test("fstatat() agrees with Node's lstat, for files, directories, links and fifos", () => {
  writeFileSync(join(dir, "file"), "abcde");
  mkdirSync(join(dir, "directory"));
  symlinkSync("file", join(dir, "link"));
  linux.mkfifo(join(dir, "fifo"), 0o640);
  for (const name of ["file", "directory", "link", "fifo"]) {
    const ours = linux.fstatat(dirFd, name, AT.SYMLINK_NOFOLLOW);
    const theirs = lstatSync(join(dir, name), { bigint: true });
    assert.deepEqual(
      [ours.mode, ours.uid, ours.gid, ours.nlink, ours.sizeBytes, ours.blocks].map(BigInt),
      [theirs.mode, theirs.uid, theirs.gid, theirs.nlink, theirs.size, theirs.blocks],
    );
    assert.deepEqual(
      [ours.ino, ours.atimeNs, ours.mtimeNs, ours.ctimeNs],
      [theirs.ino, theirs.atimeNs, theirs.mtimeNs, theirs.ctimeNs],
    );
    const { major, minor } = ours.dev;
    assert.equal(BigInt((major << 8) | minor), theirs.dev);
    assert.equal(ours.isMountRoot, false);
  }
  assert.equal(linux.fstatat(AT.FDCWD, "/proc", 0).isMountRoot, true);
  const null_ = linux.fstatat(AT.FDCWD, "/dev/null", 0);
  assert.deepEqual([null_.mode & S_IF.MT, null_.rdev], [S_IF.CHR, { major: 1, minor: 3 }]);
});

test("names need not be UTF-8, and keep their bytes", () => {
  const name = Buffer.from([0x61, 0xff, 0xc3, 0x28]);
  linux.close(linux.openat(dirFd, name, O.CREAT | O.WRONLY | O.EXCL, 0o600));
  assert.deepEqual(readdirSync(dir, { encoding: "buffer" }), [name]);
  linux.symlinkat(name, dirFd, "link");
  assert.deepEqual(linux.readlinkat(dirFd, "link"), name);
  assert.equal(linux.fstatat(dirFd, "link", 0).mode & S_IF.MT, S_IF.REG);
  linux.renameat2({ dirFd, path: name }, { dirFd, path: "plain" }, 0);
  linux.unlinkat(dirFd, "link", 0);
  assert.deepEqual(readdirSync(dir), ["plain"]);
});

test("a path with a NUL inside is refused in every form before the kernel sees it", () => {
  for (const path of ["a\0b", Buffer.from("a\0b"), Buffer.from("a\0")]) {
    assert.throws(() => linux.mkdirat(dirFd, path, 0o700), { errno: "EINVAL" });
    assert.throws(() => linux.symlinkat(path, dirFd, "link"), { errno: "EINVAL" });
    assert.throws(() => linux.lgetxattr(dir, path), { errno: "EINVAL" });
  }
  assert.deepEqual(readdirSync(dir), []);
});

test("a refusal names call and path", () => {
  assert.throws(() => linux.mkdirat(dirFd, "a/b", 0o700), {
    name: "SyscallError",
    errno: "ENOENT",
    syscall: "mkdirat",
    path: "a/b",
    message: "mkdirat a/b: no such file or directory",
  });
});

test("times are set to the nanosecond, on links, before the epoch, one alone", () => {
  symlinkSync("nowhere", join(dir, "link"));
  const times = { atimeNs: 1_700_000_000_123_456_789n, mtimeNs: -1n };
  linux.utimensat(dirFd, "link", times, AT.SYMLINK_NOFOLLOW);
  const stat = lstatSync(join(dir, "link"), { bigint: true });
  assert.deepEqual([stat.atimeNs, stat.mtimeNs], [times.atimeNs, times.mtimeNs]);
  linux.utimensat(dirFd, "link", { mtimeNs: 5n }, AT.SYMLINK_NOFOLLOW);
  const later = linux.fstatat(dirFd, "link", AT.SYMLINK_NOFOLLOW);
  assert.deepEqual([later.atimeNs, later.mtimeNs], [times.atimeNs, 5n]);
  const fd = linux.openat(dirFd, "file", O.CREAT | O.WRONLY, 0o600);
  linux.futimens(fd, { atimeNs: 7n, mtimeNs: 8n });
  const file = linux.fstatat(fd, "", AT.EMPTY_PATH);
  assert.deepEqual([file.atimeNs, file.mtimeNs], [7n, 8n]);
  linux.close(fd);
});

test("openat2() stays in its root, refuses links where told, and closes on exec", () => {
  mkdirSync(join(dir, "etc"));
  writeFileSync(join(dir, "etc", "passwd"), "inside");
  symlinkSync("/etc/passwd", join(dir, "link"));
  symlinkSync("../../../../etc/shadow", join(dir, "up"));
  const fd = linux.openat2(dirFd, "link", { flags: O.RDONLY, resolve: RESOLVE.IN_ROOT });
  assert.equal(readFileSync(fd, "utf8"), "inside");
  assert.equal(linux.isCloseOnExec(fd), true);
  linux.close(fd);
  const open = (path: string, resolve: number): number =>
    linux.openat2(dirFd, path, { flags: O.RDONLY, resolve });
  assert.throws(() => open("up", RESOLVE.IN_ROOT), { errno: "ENOENT" });
  assert.throws(() => open("link", RESOLVE.NO_SYMLINKS), { errno: "ELOOP" });
  assert.throws(() => open("../x", RESOLVE.BENEATH), { errno: "EXDEV" });
});

test("fchmod() and fchmodat() set exact modes whatever the umask; a link is not followed", () => {
  const fd = linux.openat(dirFd, "file", O.CREAT | O.WRONLY, 0o666);
  linux.fchmod(fd, 0o6777);
  assert.equal(statSync(join(dir, "file")).mode & 0o7777, 0o6777);
  linux.close(fd);
  linux.mkdirat(dirFd, "sub", 0o777);
  linux.fchmodat(dirFd, "sub", 0o1777, 0);
  assert.equal(statSync(join(dir, "sub")).mode & 0o7777, 0o1777);
  symlinkSync("file", join(dir, "link"));
  const refused = (): void => linux.fchmodat(dirFd, "link", 0o600, AT.SYMLINK_NOFOLLOW);
  assert.throws(refused, { errno: "ENOTSUP" });
  assert.equal(statSync(join(dir, "file")).mode & 0o7777, 0o6777);
});

test("links, directories and renames by descriptor of their directory", () => {
  writeFileSync(join(dir, "a"), "a");
  linux.linkat({ dirFd, path: "a" }, { dirFd, path: "b" }, 0);
  assert.equal(linux.fstatat(dirFd, "b", 0).nlink, 2);
  const move = (flags: number): void =>
    linux.renameat2({ dirFd, path: "a" }, { dirFd, path: "b" }, flags);
  assert.throws(() => move(RENAME.NOREPLACE), { errno: "EEXIST", path: "b" });
  linux.mkdirat(dirFd, "sub", 0o700);
  assert.throws(() => linux.unlinkat(dirFd, "sub", 0), { errno: "EISDIR" });
  linux.unlinkat(dirFd, "sub", AT.REMOVEDIR);
  assert.deepEqual(readdirSync(dir).toSorted(), ["a", "b"]);
});

test("statfs() agrees with Node's", () => {
  const [ours, theirs] = [linux.statfs("/proc"), statfsSync("/proc", { bigint: true })];
  assert.deepEqual(
    [BigInt(ours.type), BigInt(ours.blockSizeBytes), ours.blocks, ours.files],
    [theirs.type, theirs.bsize, theirs.blocks, theirs.files],
  );
  assert.deepEqual(linux.fstatfs(dirFd).blocks, linux.statfs(dir).blocks);
  assert.deepEqual(linux.statfs(dir).blocks, statfsSync(dir, { bigint: true }).blocks);
});

test("copyFileRange() copies on from where the descriptors are, and says 0 at the end", () => {
  writeFileSync(join(dir, "from"), "0123456789");
  const from = openSync(join(dir, "from"), "r");
  const to = openSync(join(dir, "to"), "w");
  assert.deepEqual(
    [4, 100, 1].map((length) => linux.copyFileRange(from, to, length)),
    [4, 6, 0],
  );
  for (const name of ["fsync", "fdatasync", "syncfs"] as const) linux[name](to);
  closeSync(from);
  closeSync(to);
  assert.equal(readFileSync(join(dir, "to"), "utf8"), "0123456789");
});

test("lseek() finds where data and holes begin", () => {
  const fd = openSync(join(dir, "sparse"), "w+");
  try {
    const hole = 1 << 20;
    ftruncateSync(fd, 3 * hole);
    writeSync(fd, "data", hole);
    assert.equal(linux.lseek(fd, 0, SEEK.DATA), hole);
    const end = linux.lseek(fd, hole, SEEK.HOLE);
    assert.ok(end > hole && end < 2 * hole);
    assert.throws(() => linux.lseek(fd, end, SEEK.DATA), { errno: "ENXIO" });
    assert.equal(linux.lseek(fd, 5, SEEK.SET), 5);
    assert.equal(readSync(fd, Buffer.alloc(1)), 1);
    assert.equal(linux.lseek(fd, 0, SEEK.HOLE), 0);
  } finally {
    closeSync(fd);
  }
});

test("flock() without waiting is refused while another holds it", () => {
  writeFileSync(join(dir, "lock"), "");
  const [a, b] = [openSync(join(dir, "lock"), "r"), openSync(join(dir, "lock"), "r")];
  linux.flock(a, LOCK.EX);
  assert.throws(() => linux.flock(b, LOCK.EX | LOCK.NB), { errno: "EAGAIN" });
  linux.flock(a, LOCK.UN);
  linux.flock(b, LOCK.EX | LOCK.NB);
  closeSync(a);
  closeSync(b);
});

test("umask() returns the mask it replaces", () => {
  const own = linux.umask(0o027);
  try {
    linux.mkfifo(join(dir, "fifo"), 0o666);
    assert.equal(statSync(join(dir, "fifo")).mode & 0o777, 0o640);
  } finally {
    assert.equal(linux.umask(own), 0o027);
  }
  assert.equal(process.umask(), own);
});
