import { overlayLowers } from "#core/mount/options.ts";
import { isErrno } from "#pkg/errors.ts";
import { AT, MOUNT_ATTR, MS, O } from "#pkg/sys/constants.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

/**
 * Beyond this, mount(2) is not used: its data is cut off at a page, and some room is left for the
 * kernel's own.
 */
export const overlayDataMax = 3584;

/** fsconfig(2) takes so long a value, its NUL included. */
const fsconfigValueMax = 255;

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

/**
 * Mounts an overlay whose options do not fit into a page: one layer at a time (`lowerdir+`, Linux
 * 6.5), or, on older kernels, with names short enough for some 150 layers.
 */
export function mountOverlay(
  sys: Syscalls,
  target: Path,
  data: readonly string[],
  flags: number,
): void {
  const opened: Fd[] = [];
  try {
    const lowers = overlayLowers(data);
    const others = data.filter((option) => !option.startsWith("lowerdir="));
    const fs = keep(opened, sys.fsopen("overlay"));
    sys.fsconfigSetString(fs, "source", "overlay");
    if (!setLowers(sys, fs, lowers, opened)) {
      const short = lowers.map((lower) => `/proc/self/fd/${keep(opened, openDir(sys, lower))}`);
      const all = [...others, `lowerdir=${short.join(":")}`].join(",");
      sys.mount(target, { source: "overlay", fstype: "overlay", flags, data: all });
      return;
    }
    for (const [flag, name] of superblockFlags) {
      if ((flags & flag) !== 0) sys.fsconfigSetFlag(fs, name);
    }
    for (const option of others) setOption(sys, fs, option, opened);
    sys.fsconfigCreate(fs);
    let attributes = 0;
    for (const [flag, attribute] of attributeOf) {
      if ((flags & flag) !== 0) attributes |= attribute;
    }
    const mount = keep(opened, sys.fsmount(fs, attributes));
    sys.moveMount({ dirFd: mount, path: "" }, { dirFd: AT.FDCWD, path: target });
  } finally {
    for (const fd of opened) sys.close(fd);
  }
}

/** False where the kernel does not know the option. */
function setLowers(sys: Syscalls, fs: Fd, lowers: readonly string[], opened: Fd[]): boolean {
  for (const [count, lower] of lowers.entries()) {
    try {
      sys.fsconfigSetString(fs, "lowerdir+", shortPath(sys, lower, opened));
    } catch (error) {
      if (count === 0 && isErrno(error, "EINVAL")) return false;
      throw error;
    }
  }
  return true;
}

function setOption(sys: Syscalls, fs: Fd, option: string, opened: Fd[]): void {
  const equals = option.indexOf("=");
  if (equals < 0) return sys.fsconfigSetFlag(fs, option);
  const key = option.slice(0, equals);
  const value = unquote(option.slice(equals + 1));
  const isPath = key === "upperdir" || key === "workdir";
  sys.fsconfigSetString(fs, key, isPath ? shortPath(sys, value, opened) : value);
}

/**
 * mount(8) needs quotes around an SELinux context for its commas; fsconfig takes the bare value.
 */
function unquote(value: string): string {
  return /^".*"$/.test(value) ? value.slice(1, -1) : value;
}

function shortPath(sys: Syscalls, path: string, opened: Fd[]): string {
  if (Buffer.byteLength(path) <= fsconfigValueMax) return path;
  return `/proc/self/fd/${keep(opened, openDir(sys, path))}`;
}

function openDir(sys: Syscalls, path: string): Fd {
  return sys.openat(AT.FDCWD, path, O.PATH | O.DIRECTORY);
}

function keep(opened: Fd[], fd: Fd): Fd {
  opened.push(fd);
  return fd;
}
