import { fchmodSync } from "node:fs";
import type { ByteString, TarEntry } from "#pkg/archive/tar-entry.ts";
import { kernelPath } from "#pkg/archive/tree-path.ts";
import { isErrno } from "#pkg/errors.ts";
import { AT } from "#pkg/sys/constants.ts";
import type { Fd, FileCalls, FileTimes, XattrCalls } from "#pkg/sys/syscall.ts";

/** A file by its directory and name, never followed when it is a symlink. */
export interface FilePlace {
  readonly parent: Fd;
  readonly name: ByteString;
}

/** Called for an attribute that this tree cannot have, where that is no reason to fail. */
export type OnIgnoredXattr = (name: ByteString, reason: string) => void;

type AttributeCalls = FileCalls & XattrCalls;

/** Owner, attributes, mode and times of an open file or directory. */
export function applyToFd(
  sys: AttributeCalls,
  fd: Fd,
  entry: TarEntry,
  onIgnored: OnIgnoredXattr,
): void {
  sys.fchown(fd, entry.uid, entry.gid);
  for (const [name, value] of entry.xattrs) {
    setXattr(entry, name, onIgnored, (key) => sys.fsetxattr(fd, key, value));
  }
  // After the owner: changing it takes set-id bits away.
  fchmodSync(fd, entry.mode);
  if (entry.type !== "directory") sys.futimens(fd, timesOf(entry));
}

/** The same for what cannot be opened without an effect: links, devices, fifos. */
export function applyToPlace(
  sys: AttributeCalls,
  { parent, name }: FilePlace,
  entry: TarEntry,
  onIgnored: OnIgnoredXattr,
): void {
  const path = kernelPath(name);
  sys.fchownat(parent, path, entry, AT.SYMLINK_NOFOLLOW);
  for (const [key, value] of entry.xattrs) {
    setXattr(entry, key, onIgnored, (xattr) => {
      sys.lsetxattr(procPath(parent, name), xattr, value);
    });
  }
  if (entry.type !== "symlink") chmodUnlessSymlink(sys, parent, path, entry.mode);
  sys.utimensat(parent, path, timesOf(entry), AT.SYMLINK_NOFOLLOW);
}

/** A path that starts at an open directory, for calls that take no directory descriptor. */
export function procPath(parent: Fd, name: ByteString): Buffer {
  return Buffer.from(`/proc/self/fd/${parent}/${name}`, "latin1");
}

/** As upstream: access time at least the modification time, and both from 1970 to 2262. */
export function timesOf(entry: Pick<TarEntry, "mtimeNs" | "atimeNs">): Required<FileTimes> {
  const atimeNs =
    entry.atimeNs !== undefined && entry.atimeNs > entry.mtimeNs ? entry.atimeNs : entry.mtimeNs;
  return { atimeNs: bound(atimeNs), mtimeNs: bound(entry.mtimeNs) };
}

const nanosMax = (1n << 63n) - 1n;

function bound(nanos: bigint): bigint {
  return nanos < 0n || nanos > nanosMax ? 0n : nanos;
}

function chmodUnlessSymlink(sys: FileCalls, parent: Fd, path: string | Buffer, mode: number): void {
  try {
    sys.fchmodat(parent, path, mode, AT.SYMLINK_NOFOLLOW);
  } catch (error) {
    // A hard link to a symlink: it has no mode.
    if (!isErrno(error, "ENOTSUP")) throw error;
  }
}

function setXattr(
  entry: TarEntry,
  name: ByteString,
  onIgnored: OnIgnoredXattr,
  set: (name: string | Buffer) => void,
): void {
  // The kernel's own marks (overlayfs keeps its state there): an archive must not set them.
  if (name.startsWith("trusted.") || name.startsWith("user.overlay.")) {
    onIgnored(name, "is reserved");
    return;
  }
  try {
    set(kernelPath(name));
  } catch (error) {
    if (!isIgnorable(error, entry, name)) throw error;
    onIgnored(name, "is not supported here");
  }
}

function isIgnorable(error: unknown, entry: TarEntry, name: ByteString): boolean {
  if (isErrno(error, "ENOTSUP")) return true;
  // Only files and directories can have attributes of users.
  const isSpecial = entry.type !== "file" && entry.type !== "directory";
  return isSpecial && name.startsWith("user.") && isErrno(error, "EPERM");
}
