import { readdirSync } from "node:fs";
import type { ByteString } from "#pkg/archive/tar-entry.ts";
import { joinPath, kernelPath } from "#pkg/archive/tree-path.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import type { DescriptorCalls, Fd, FileCalls } from "#pkg/sys/syscall.ts";

/**
 * What is called for each entry of a tree; `path` is below its top. Directories are open only
 * during the call.
 */
export interface TreeVisitor {
  /** Everything but directories. */
  file(parent: Fd, name: ByteString, path: ByteString): void;
  /** Before a directory's entries; with "skip" neither these nor `leave` follow. */
  enter(parent: Fd, name: ByteString, path: ByteString): "descend" | "skip";
  leave(parent: Fd, name: ByteString, path: ByteString): void;
}

interface Frame {
  readonly name: ByteString;
  readonly path: ByteString;
  readonly ino: bigint;
  /** Directories not yet entered. */
  readonly directories: ByteString[];
}

/**
 * Walks a tree of any depth, one or two descriptors at a time, never following a symlink. Files of
 * a directory come before its directories; `order: "sorted"` sorts both by their bytes. The tree
 * may be changed by the visitor only.
 */
export function walkTree(
  sys: FileCalls & DescriptorCalls,
  top: Fd,
  visitor: TreeVisitor,
  order: "any" | "sorted" = "any",
): void {
  const frames: Frame[] = [];
  let fd = sys.dup(top);
  try {
    frames.push(openFrame(sys, fd, { name: "", path: "" }, visitor, order));
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      const name = frame.directories.pop();
      if (name === undefined) {
        frames.pop();
        const parent = frames.at(-1);
        if (parent === undefined) return;
        fd = swap(sys, fd, ascend(sys, fd, parent));
        visitor.leave(fd, frame.name, frame.path);
        continue;
      }
      const path = joinPath(frame.path, name);
      if (visitor.enter(fd, name, path) === "skip") continue;
      const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
      fd = swap(sys, fd, sys.openat(fd, kernelPath(name), flags));
      frames.push(openFrame(sys, fd, { name, path }, visitor, order));
    }
  } finally {
    sys.close(fd);
  }
}

function openFrame(
  sys: FileCalls,
  fd: Fd,
  { name, path }: { name: ByteString; path: ByteString },
  visitor: TreeVisitor,
  order: "any" | "sorted",
): Frame {
  const directories: ByteString[] = [];
  const entries = readdirSync(`/proc/self/fd/${fd}`, { withFileTypes: true, encoding: "latin1" });
  if (order === "sorted") entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    if (entry.isDirectory()) directories.push(entry.name);
    else visitor.file(fd, entry.name, joinPath(path, entry.name));
  }
  // Taken from the end.
  directories.reverse();
  return { name, path, ino: sys.fstatat(fd, "", AT.EMPTY_PATH).ino, directories };
}

function ascend(sys: FileCalls & DescriptorCalls, fd: Fd, parent: Frame): Fd {
  const up = sys.openat(fd, "..", O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (sys.fstatat(up, "", AT.EMPTY_PATH).ino === parent.ino) return up;
  sys.close(up);
  // Moved away by someone else: going on would leave the tree.
  throw new SyscallError("ESTALE", "openat", kernelPath(`${parent.path}/..`));
}

function swap(sys: DescriptorCalls, from: Fd, to: Fd): Fd {
  sys.close(from);
  return to;
}

/** Removes `name` of the directory and all below it; nothing happens when there is none. */
export function removeTree(sys: FileCalls & DescriptorCalls, parent: Fd, name: ByteString): void {
  const target = kernelPath(name);
  try {
    sys.unlinkat(parent, target, 0);
    return;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    if (error.errno === "ENOENT") return;
    if (error.errno !== "EISDIR") throw error;
  }
  const fd = sys.openat(parent, target, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  try {
    walkTree(sys, fd, {
      file: (directory, entry) => sys.unlinkat(directory, kernelPath(entry), 0),
      enter: () => "descend",
      leave: (directory, entry) => sys.unlinkat(directory, kernelPath(entry), AT.REMOVEDIR),
    });
  } finally {
    sys.close(fd);
  }
  sys.unlinkat(parent, target, AT.REMOVEDIR);
}

/** What a tree takes: blocks, and inodes, hard links once; its top included. */
export function treeUsage(
  sys: FileCalls & DescriptorCalls,
  top: Fd,
  checkpoint: () => void = () => {},
): { sizeBytes: number; inodes: number } {
  const linked = new Set<string>();
  let sizeBytes = 0;
  let inodes = 0;
  const add = (fd: Fd, name: ByteString): void => {
    const flags = name === "" ? AT.EMPTY_PATH : AT.SYMLINK_NOFOLLOW;
    const stat = sys.fstatat(fd, kernelPath(name), flags);
    if (stat.nlink > 1 && (stat.mode & 0o170000) !== 0o040000) {
      const key = `${stat.dev.major}:${stat.dev.minor}:${stat.ino}`;
      if (linked.has(key)) return;
      linked.add(key);
    }
    sizeBytes += stat.blocks * 512;
    inodes += 1;
  };
  add(top, "");
  walkTree(sys, top, {
    file: add,
    enter(fd, name) {
      checkpoint();
      add(fd, name);
      return "descend";
    },
    leave() {},
  });
  return { sizeBytes, inodes };
}
