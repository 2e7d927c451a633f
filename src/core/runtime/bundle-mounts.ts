import { readFile, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Unmount } from "#core/runtime/bundle.ts";
import { isErrno, messageOf, wrap } from "#pkg/errors.ts";
import { MNT } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** Mounts may be stacked on one point, and new ones appear while a shim ends. */
const roundsMax = 16;
const busyRetries = 10;
const busyDelayMs = 20;

export type ReadMountInfo = () => Promise<string>;

/**
 * Unmounts what is mounted at or below a path, the last mounted first.
 *
 * What stays busy is detached: it goes with its last user, and no path leads to it any more.
 */
export function bundleUnmount(
  sys: Pick<Syscalls, "unmount">,
  readMountInfo: ReadMountInfo = readOwnMountInfo,
): Unmount {
  return async (path) => {
    for (let round = 0; round < roundsMax; round++) {
      const points = (await mountedBelow(path, readMountInfo)).toReversed();
      if (points.length === 0) return;
      for (const point of points) await unmount(sys, point);
    }
    throw new Error(`unmount ${path}: still mounted`);
  };
}

async function unmount(sys: Pick<Syscalls, "unmount">, point: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await sys.unmount(point, attempt < busyRetries ? MNT.NOFOLLOW : MNT.NOFOLLOW | MNT.DETACH);
      return;
    } catch (error) {
      // Somebody else has unmounted it.
      if (isSyscallError(error, "EINVAL", "ENOENT")) return;
      if (!isSyscallError(error, "EBUSY") || attempt >= busyRetries) {
        throw wrap(`unmount ${point}`, new Error(messageOf(error), { cause: error }));
      }
    }
    await delay(busyDelayMs);
  }
}

/** What is mounted at and below a path, as the kernel names it, in the order it was mounted. */
export async function mountedBelow(
  path: string,
  readMountInfo: ReadMountInfo = readOwnMountInfo,
): Promise<string[]> {
  const resolved = await resolveMountPoint(path);
  return resolved === undefined ? [] : mountPointsBelow(await readMountInfo(), resolved);
}

export async function isMountPoint(path: string): Promise<boolean> {
  const resolved = await resolveMountPoint(path);
  return (
    resolved !== undefined &&
    mountPointsBelow(await readOwnMountInfo(), resolved).includes(resolved)
  );
}

/**
 * The kernel tells of mounts by paths without links, and a directory may have been configured through
 * one. A link at the end is not followed: nothing is mounted at it, and where it leads is not asked for.
 *
 * Undefined where nothing can be mounted, since there is no such directory.
 */
export async function resolveMountPoint(path: string): Promise<string | undefined> {
  try {
    return join(await realpath(dirname(path)), basename(path));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

function readOwnMountInfo(): Promise<string> {
  return readFile("/proc/self/mountinfo", "utf8");
}

/** In the order they were mounted. */
export function mountPointsBelow(mountInfo: string, path: string): string[] {
  return mountInfo
    .split("\n")
    .map((line) => unescapeMountPath(line.split(" ")[4] ?? ""))
    .filter((point) => point === path || point.startsWith(`${path}/`));
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescapeMountPath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
