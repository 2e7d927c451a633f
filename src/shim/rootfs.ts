import { mkdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Mount } from "#core/mount/mount.ts";
import { CodedError, invalidArgument, isErrno, messageOf } from "#pkg/errors.ts";
import { MNT, MS } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { parseMountOptions, propagationFlags } from "./mount-options.ts";

/**
 * Mounts what a container stands on. On a failure what this call had mounted is unmounted again.
 *
 * The error reads as upstream's, `failed to mount rootfs component: ...`.
 */
export async function mountRootfs(
  sys: Syscalls,
  mounts: readonly Mount[],
  rootfs: string,
): Promise<void> {
  if (mounts.length === 0) return;
  await mkdir(rootfs, { recursive: true, mode: 0o711 });
  try {
    for (const mount of mounts) mountOne(sys, mount, targetBelow(rootfs, mount.target));
  } catch (error) {
    await unmountBelow(sys, rootfs);
    throw new CodedError("unknown", `failed to mount rootfs component: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Unmounts everything at and below a directory, the last mounted first. Nothing mounted is fine.
 */
export async function unmountBelow(sys: Syscalls, rootfs: string): Promise<void> {
  for (const target of await mountsBelow(rootfs)) {
    try {
      sys.umount2(target, MNT.NOFOLLOW);
    } catch (error) {
      if (isErrno(error, "EINVAL", "ENOENT")) continue;
      // Somebody has a file open in it: gone from the tree at once, from the kernel with its last
      // user.
      if (!isErrno(error, "EBUSY")) throw error;
      sys.umount2(target, MNT.NOFOLLOW | MNT.DETACH);
    }
  }
}

async function mountsBelow(directory: string): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  const points = table
    .split("\n")
    .map((line) => unescape(line.split(" ")[4] ?? ""))
    .filter((point) => point === directory || point.startsWith(`${directory}/`));
  return points.toReversed();
}

// The kernel writes space, tab, newline and backslash as octal numbers.
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

function targetBelow(rootfs: string, target: string): string {
  const path = resolve(rootfs, `./${target}`);
  if (path !== rootfs && !path.startsWith(`${rootfs}/`)) {
    throw invalidArgument(`mount target ${JSON.stringify(target)} leaves the rootfs`);
  }
  return path;
}

function mountOne(sys: Syscalls, mount: Mount, target: string): void {
  const { flags, data } = parseMountOptions(mount.options);
  const isBind = (flags & MS.BIND) !== 0;
  const propagation = flags & propagationFlags;
  const plain = flags & ~propagationFlags;
  if (plain !== MS.REC) {
    sys.mount(target, {
      source: mount.source,
      // The word `bind` is an option to mount(8) and no file system.
      ...(mount.type !== "" && mount.type !== "bind" && { fstype: mount.type }),
      flags: mount.type === "bind" ? plain | MS.BIND : plain,
      ...(data.length > 0 && { data: data.join(",") }),
    });
  }
  if (propagation !== 0) sys.mount(target, { flags: propagation | (flags & MS.REC) });
  // A bind ignores read-only and its kin until it is mounted over once more.
  const restrictions = plain & ~(MS.BIND | MS.REC);
  if ((isBind || mount.type === "bind") && restrictions !== 0) {
    sys.mount(target, { flags: MS.REMOUNT | MS.BIND | restrictions });
  }
}

/** Where the runtime finds a container's root when the client has given mounts. */
export function rootfsOf(bundle: string): string {
  return join(bundle, "rootfs");
}
