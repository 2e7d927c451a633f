import { AT, MOUNT_ATTR, MS, O } from "#pkg/sys/constants.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

/** fsconfig(2) takes so long a value, its NUL included. */
const valueBytesMax = 255;

const attributeOf = [
  [MS.RDONLY, MOUNT_ATTR.RDONLY],
  [MS.NOSUID, MOUNT_ATTR.NOSUID],
  [MS.NODEV, MOUNT_ATTR.NODEV],
  [MS.NOEXEC, MOUNT_ATTR.NOEXEC],
  [MS.NOATIME, MOUNT_ATTR.NOATIME],
  [MS.STRICTATIME, MOUNT_ATTR.STRICTATIME],
  [MS.NODIRATIME, MOUNT_ATTR.NODIRATIME],
] as const;

const superblockFlags = [
  [MS.RDONLY, "ro"],
  [MS.SYNCHRONOUS, "sync"],
  [MS.DIRSYNC, "dirsync"],
] as const;

/** A file system that is put together option by option, which mount(2) would cut off at a page. */
export class FsContext implements Disposable {
  readonly #sys: Syscalls;
  readonly #opened: Fd[] = [];
  readonly #fd: Fd;

  constructor(sys: Syscalls, type: string) {
    this.#sys = sys;
    this.#fd = this.#keep(sys.fsopen(type));
  }

  setString(key: string, value: string): void {
    this.#sys.fsconfigSetString(this.#fd, key, value);
  }

  /** By a descriptor, which stays open, where the path is longer than a value may be. */
  setPath(key: string, path: string): void {
    const isShort = Buffer.byteLength(path) < valueBytesMax;
    this.setString(key, isShort ? path : this.descriptorPath(path));
  }

  /** A short name for a path, good as long as this is. */
  descriptorPath(path: string): string {
    return `/proc/self/fd/${this.#keep(this.#sys.openat(AT.FDCWD, path, O.PATH))}`;
  }

  /** Those of `MS` that the file system itself has to know. */
  setFlags(flags: number): void {
    for (const [flag, name] of superblockFlags) {
      if ((flags & flag) !== 0) this.#sys.fsconfigSetFlag(this.#fd, name);
    }
  }

  /** One as mount(8) takes it: `name` or `name=value`. */
  setOption(option: string, pathKeys: readonly string[]): void {
    const equals = option.indexOf("=");
    if (equals < 0) return this.#sys.fsconfigSetFlag(this.#fd, option);
    const key = option.slice(0, equals);
    const value = unquote(option.slice(equals + 1));
    if (pathKeys.includes(key)) this.setPath(key, value);
    else this.setString(key, value);
  }

  /** Makes it. Its descriptor is the caller's from here on, the others are still closed with this. */
  create(): Fd {
    this.#sys.fsconfigCreate(this.#fd);
    this.#opened.shift();
    return this.#fd;
  }

  /** Makes it, and mounts it with the attributes among `flags`, of `MS`. */
  mount(target: Path, flags: number): void {
    this.#sys.fsconfigCreate(this.#fd);
    let attributes = 0;
    for (const [flag, attribute] of attributeOf) {
      if ((flags & flag) !== 0) attributes |= attribute;
    }
    const mount = this.#keep(this.#sys.fsmount(this.#fd, attributes));
    this.#sys.moveMount({ dirFd: mount, path: "" }, { dirFd: AT.FDCWD, path: target });
  }

  [Symbol.dispose](): void {
    for (const fd of this.#opened.splice(0)) this.#sys.close(fd);
  }

  #keep(fd: Fd): Fd {
    this.#opened.push(fd);
    return fd;
  }
}

/**
 * mount(8) needs quotes around an SELinux context for its commas; fsconfig takes the bare value.
 */
function unquote(value: string): string {
  return /^".*"$/.test(value) ? value.slice(1, -1) : value;
}
