import { fchmodSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { procPath } from "#pkg/archive/file-attributes.ts";
import type { ByteString } from "#pkg/archive/tar-entry.ts";
import { kernelPath } from "#pkg/archive/tree-path.ts";
import { walkTree } from "#pkg/archive/tree-walk.ts";
import { isErrno } from "#pkg/errors.ts";
import { AT, O, S_IF, SEEK } from "#pkg/sys/constants.ts";
import type { Fd, FileStat, Syscalls } from "#pkg/sys/syscall.ts";

const copyChunkBytes = 64 << 20;
const readBytes = 1 << 20;

/**
 * Copies what is in one directory into another, and that directory's own attributes: files (shared
 * blocks where the file system can), hard links as such, symlinks, devices, fifos; owner, mode,
 * attributes, times. Sockets are left out.
 */
export function copyTree(sys: Syscalls, from: Fd, to: Fd, checkpoint: () => void): void {
  new TreeCopy(sys, from, to, checkpoint).run();
}

class TreeCopy {
  readonly #sys: Syscalls;
  readonly #from: Fd;
  readonly #to: Fd;
  readonly #checkpoint: () => void;
  /** Where the first name of a file with several went, by its inode. */
  readonly #linked = new Map<string, ByteString>();
  /** The directory being written, a step behind or beside the one being read. */
  #current: Fd;
  #canClone = true;

  constructor(sys: Syscalls, from: Fd, to: Fd, checkpoint: () => void) {
    this.#sys = sys;
    this.#from = from;
    this.#to = to;
    this.#checkpoint = checkpoint;
    this.#current = sys.dup(to);
  }

  run(): void {
    const stats: FileStat[] = [];
    try {
      walkTree(this.#sys, this.#from, {
        file: (parent, name, path) => this.#copy(parent, name, path),
        enter: (parent, name) => {
          this.#checkpoint();
          stats.push(this.#stat(parent, name));
          this.#enter(name);
          return "descend";
        },
        leave: (parent, name) => {
          const stat = stats.pop();
          if (stat) this.#finishDirectory(procPath(parent, name), this.#current, stat);
          this.#change("..");
        },
      });
      const stat = this.#sys.fstatat(this.#from, "", AT.EMPTY_PATH);
      this.#finishDirectory(Buffer.from(`/proc/self/fd/${this.#from}/.`), this.#to, stat);
    } finally {
      this.#sys.close(this.#current);
    }
  }

  #enter(name: ByteString): void {
    this.#sys.mkdirat(this.#current, kernelPath(name), 0o700);
    this.#change(name);
  }

  #change(name: ByteString): void {
    const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
    const next = this.#sys.openat(this.#current, kernelPath(name), flags);
    this.#sys.close(this.#current);
    this.#current = next;
  }

  /** Last, since the files made in it change its times. */
  #finishDirectory(source: Buffer, fd: Fd, stat: FileStat): void {
    this.#sys.fchown(fd, stat.uid, stat.gid);
    for (const name of this.#sys.llistxattr(source)) {
      const value = this.#sys.lgetxattr(source, name);
      if (value) setUnlessRefused(() => this.#sys.fsetxattr(fd, name, value));
    }
    fchmodSync(fd, stat.mode & 0o7777);
    this.#sys.futimens(fd, stat);
  }

  #copy(parent: Fd, name: ByteString, path: ByteString): void {
    const stat = this.#stat(parent, name);
    const type = stat.mode & S_IF.MT;
    if (type === S_IF.SOCK) return;
    if (stat.nlink > 1 && this.#linkTo(stat, name, path)) return;
    if (type === S_IF.REG) {
      this.#copyFile(parent, name, stat);
      return;
    }
    const target = kernelPath(name);
    if (type === S_IF.LNK) {
      this.#sys.symlinkat(this.#sys.readlinkat(parent, target), this.#current, target);
    } else {
      this.#sys.mknodat(this.#current, target, type | 0o600, stat.rdev);
    }
    this.#sys.fchownat(this.#current, target, stat, AT.SYMLINK_NOFOLLOW);
    const [source, copy] = [procPath(parent, name), procPath(this.#current, name)];
    for (const xattr of this.#sys.llistxattr(source)) {
      const value = this.#sys.lgetxattr(source, xattr);
      if (value) setUnlessRefused(() => this.#sys.lsetxattr(copy, xattr, value));
    }
    if (type !== S_IF.LNK) {
      this.#sys.fchmodat(this.#current, target, stat.mode & 0o7777, AT.SYMLINK_NOFOLLOW);
    }
    this.#sys.utimensat(this.#current, target, stat, AT.SYMLINK_NOFOLLOW);
  }

  #linkTo(stat: FileStat, name: ByteString, path: ByteString): boolean {
    const key = `${stat.dev.major}:${stat.dev.minor}:${stat.ino}`;
    const first = this.#linked.get(key);
    if (first === undefined) {
      this.#linked.set(key, path);
      return false;
    }
    const from = { dirFd: this.#to, path: kernelPath(first) };
    this.#sys.linkat(from, { dirFd: this.#current, path: kernelPath(name) }, 0);
    return true;
  }

  #copyFile(parent: Fd, name: ByteString, stat: FileStat): void {
    const target = kernelPath(name);
    const source = this.#sys.openat(parent, target, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
    try {
      const flags = O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW;
      const copy = this.#sys.openat(this.#current, target, flags, 0o600);
      try {
        this.#copyData(source, copy, stat);
        this.#sys.fchown(copy, stat.uid, stat.gid);
        for (const xattr of this.#sys.flistxattr(source)) {
          const value = this.#sys.fgetxattr(source, xattr);
          if (value) setUnlessRefused(() => this.#sys.fsetxattr(copy, xattr, value));
        }
        fchmodSync(copy, stat.mode & 0o7777);
        this.#sys.futimens(copy, stat);
      } finally {
        this.#sys.close(copy);
      }
    } finally {
      this.#sys.close(source);
    }
  }

  #copyData(source: Fd, copy: Fd, stat: FileStat): void {
    if (stat.sizeBytes === 0) return;
    if (this.#canClone) {
      try {
        this.#sys.ficlone(copy, source);
        return;
      } catch (error) {
        if (!isErrno(error, "ENOTSUP", "EXDEV", "EINVAL", "ENOTTY")) throw error;
        this.#canClone = false;
      }
    }
    // A file with holes may be larger than any disk.
    if (stat.blocks * 512 < stat.sizeBytes) this.#copyExtents(source, copy);
    else this.#copyRange(source, copy, stat.sizeBytes);
    ftruncateSync(copy, stat.sizeBytes);
  }

  /** Only what is data: what lies between stays a hole. */
  #copyExtents(source: Fd, copy: Fd): void {
    for (let at = 0; ; ) {
      let start: number;
      try {
        start = this.#sys.lseek(source, at, SEEK.DATA);
      } catch (error) {
        if (isErrno(error, "ENXIO")) return;
        throw error;
      }
      at = this.#sys.lseek(source, start, SEEK.HOLE);
      for (const fd of [source, copy]) this.#sys.lseek(fd, start, SEEK.SET);
      this.#copyRange(source, copy, at - start);
    }
  }

  /** From where both are; less where the source has become shorter. */
  #copyRange(source: Fd, copy: Fd, lengthBytes: number): void {
    let left = lengthBytes;
    try {
      while (left > 0) {
        const length = this.#sys.copyFileRange(source, copy, Math.min(left, copyChunkBytes));
        if (length === 0) return;
        left -= length;
        this.#checkpoint();
      }
    } catch (error) {
      if (!isErrno(error, "EXDEV", "ENOTSUP", "ENOSYS", "EINVAL")) throw error;
      this.#copyByHand(source, copy, left);
    }
  }

  #copyByHand(source: Fd, copy: Fd, lengthBytes: number): void {
    const buffer = Buffer.allocUnsafe(readBytes);
    for (let left = lengthBytes; left > 0; ) {
      this.#checkpoint();
      const length = readSync(source, buffer, 0, Math.min(left, readBytes), null);
      if (length === 0) return;
      for (let at = 0; at < length; ) at += writeSync(copy, buffer, at, length - at);
      left -= length;
    }
  }

  #stat(parent: Fd, name: ByteString): FileStat {
    return this.#sys.fstatat(parent, kernelPath(name), AT.SYMLINK_NOFOLLOW);
  }
}

function setUnlessRefused(set: () => void): void {
  try {
    set();
  } catch (error) {
    // Attributes of security modules are theirs to set; a file system without attributes has none.
    if (!isErrno(error, "ENOTSUP", "EPERM", "EACCES")) throw error;
  }
}
