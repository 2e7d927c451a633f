import { fchmodSync, readdirSync } from "node:fs";
import type { Directory } from "#pkg/archive/directory-tree.ts";
import type { ByteString } from "#pkg/archive/tar-entry.ts";
import { kernelPath, parentPath } from "#pkg/archive/tree-path.ts";
import { isErrno } from "#pkg/errors.ts";
import { AT, O, RESOLVE, S_IF } from "#pkg/sys/constants.ts";
import type { Fd, FileStat, FileTimes, Syscalls } from "#pkg/sys/syscall.ts";

/** The trees below the one being written, the nearest first; opened when first asked. */
export class LowerLayers implements Disposable {
  readonly #sys: Syscalls;
  readonly #roots: readonly string[];
  #fds: Fd[] | undefined;

  constructor(sys: Syscalls, roots: readonly string[]) {
    this.#sys = sys;
    this.#roots = roots;
  }

  /**
   * Gives a directory the owner, mode, attributes and times that the same directory has below;
   * answers the times, which are to be set again once its files are made. Undefined when no layer
   * has it.
   */
  copyAttributes(directory: Directory): FileTimes | undefined {
    const source = this.#find(directory.path);
    if (source === undefined) return undefined;
    try {
      const stat = this.#sys.fstatat(source, "", AT.EMPTY_PATH);
      this.#sys.fchown(directory.fd, stat.uid, stat.gid);
      this.#copyXattrs(source, directory.fd);
      fchmodSync(directory.fd, stat.mode & 0o7777);
      return { atimeNs: stat.atimeNs, mtimeNs: stat.mtimeNs };
    } finally {
      this.#sys.close(source);
    }
  }

  /** Whether no layer below has anything at the path. Without layers to ask that is not known. */
  lacks(path: ByteString): boolean {
    if (this.#roots.length === 0) return false;
    const fd = this.#topmost(path);
    if (fd === undefined) return true;
    try {
      return isWhiteoutNode(this.#sys.fstatat(fd, "", AT.EMPTY_PATH));
    } finally {
      this.#sys.close(fd);
    }
  }

  /** What stands at the top of any layer below. */
  topNames(): ReadonlySet<ByteString> {
    const names = this.#opened().flatMap((fd) => {
      return readdirSync(`/proc/self/fd/${fd}`, { encoding: "latin1" });
    });
    return new Set(names);
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds ?? []) this.#sys.close(fd);
    this.#fds = undefined;
  }

  #opened(): readonly Fd[] {
    this.#fds ??= this.#roots.map((root) => {
      return this.#sys.openat(AT.FDCWD, root, O.RDONLY | O.DIRECTORY);
    });
    return this.#fds;
  }

  /**
   * The directory that shows through at the path; a file or whiteout there hides those further
   * down.
   */
  #find(path: ByteString): Fd | undefined {
    const fd = this.#topmost(path);
    if (fd === undefined || isDirectory(this.#sys.fstatat(fd, "", AT.EMPTY_PATH))) return fd;
    this.#sys.close(fd);
    return undefined;
  }

  #topmost(path: ByteString): Fd | undefined {
    for (const root of this.#opened()) {
      const found = this.#open(root, path);
      if (found !== undefined) return found;
      if (this.#isHiddenBelow(root, path)) return undefined;
    }
    return undefined;
  }

  #open(root: Fd, path: ByteString): Fd | undefined {
    try {
      const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK;
      return this.#sys.openat2(root, kernelPath(path), { flags, resolve: RESOLVE.IN_ROOT });
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
      // A symlink, a socket or a device without driver: no directory, but something.
      if (isErrno(error, "ELOOP", "ENXIO", "ENODEV")) {
        return this.#sys.openat2(root, kernelPath(path), {
          flags: O.PATH | O.NOFOLLOW,
          resolve: RESOLVE.IN_ROOT,
        });
      }
      throw error;
    }
  }

  /** Whether a directory above is opaque, or no directory, in this layer. */
  #isHiddenBelow(root: Fd, path: ByteString): boolean {
    for (let p = parentPath(path); p !== ""; p = parentPath(p)) {
      const fd = this.#open(root, p);
      if (fd === undefined) continue;
      try {
        const stat = this.#sys.fstatat(fd, "", AT.EMPTY_PATH);
        if (!isDirectory(stat) || isOpaque(this.#sys, fd)) return true;
      } finally {
        this.#sys.close(fd);
      }
    }
    return false;
  }

  #copyXattrs(from: Fd, to: Fd): void {
    for (const name of this.#sys.flistxattr(from)) {
      if (name.toString("latin1").startsWith("trusted.")) continue;
      const value = this.#sys.fgetxattr(from, name);
      if (value === undefined) continue;
      try {
        this.#sys.fsetxattr(to, name, value);
      } catch (error) {
        if (!isErrno(error, "ENOTSUP")) throw error;
      }
    }
  }
}

function isDirectory(stat: FileStat): boolean {
  return (stat.mode & S_IF.MT) === S_IF.DIR;
}

export function isWhiteoutNode(stat: FileStat): boolean {
  const isCharacter = (stat.mode & S_IF.MT) === S_IF.CHR;
  return isCharacter && stat.rdev.major === 0 && stat.rdev.minor === 0;
}

/** Whether overlayfs would let nothing below show through this directory. */
export function isOpaque(sys: Syscalls, fd: Fd): boolean {
  return ["trusted.overlay.opaque", "user.overlay.opaque"].some((name) => {
    try {
      return sys.fgetxattr(fd, name)?.toString("latin1") === "y";
    } catch (error) {
      if (isErrno(error, "ENOTSUP")) return false;
      throw error;
    }
  });
}
