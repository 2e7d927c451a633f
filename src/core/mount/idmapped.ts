import { mkdtempSync, rmdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import {
  type IdMapping,
  idMapLines,
  identityMapping,
  parseIdMappings,
} from "#core/mount/id-mapping.ts";
import type { MountPlan } from "#core/mount/options.ts";
import { escapeLower, overlayLowers } from "#core/mount/options.ts";
import { mappedLowersPrefix } from "#core/mount/temp-mounts.ts";
import { invalidArgument, isErrno, wrap } from "#pkg/errors.ts";
import { AT, MNT, MOUNT_ATTR, MS, OPEN_TREE } from "#pkg/sys/constants.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

/**
 * Opens a user namespace with the mappings of a plan; undefined where it has none. Where only one
 * of the two is given, the other ids stay what they are. The caller closes it.
 */
export function openMapping(sys: Syscalls, plan: MountPlan): Fd | undefined {
  if (plan.uidMap === undefined && plan.gidMap === undefined) return undefined;
  const lines = (map: string | undefined): string => {
    const mappings: readonly IdMapping[] =
      map === undefined ? identityMapping : parseIdMappings(map);
    return idMapLines(mappings);
  };
  const [uids, gids] = [lines(plan.uidMap), lines(plan.gidMap)];
  try {
    return sys.openUserNamespace(uids, gids);
  } catch (error) {
    throw wrap(`id mappings uidmap=${plan.uidMap ?? ""} gidmap=${plan.gidMap ?? ""}`, error);
  }
}

/** Mounts what is at `source` at `target`, its owners mapped. */
export function mountMapped(
  sys: Syscalls,
  usernsFd: Fd,
  source: Path,
  target: Path,
  options: { readonly recursive: boolean; readonly set?: number },
): void {
  const tree = openMapped(sys, usernsFd, source, options);
  try {
    sys.moveMount({ dirFd: tree, path: "" }, { dirFd: AT.FDCWD, path: target });
  } finally {
    sys.close(tree);
  }
}

function openMapped(
  sys: Syscalls,
  usernsFd: Fd,
  source: Path,
  { recursive, set = 0 }: { readonly recursive: boolean; readonly set?: number },
): Fd {
  const depth = recursive ? AT.RECURSIVE : 0;
  const tree = sys.openTree(AT.FDCWD, source, OPEN_TREE.CLONE | depth);
  try {
    sys.mountSetattr(tree, "", {
      set: MOUNT_ATTR.IDMAP | set,
      // Nothing that is mounted in a source later shows up below a container.
      propagation: MS.PRIVATE,
      usernsFd,
      flags: AT.EMPTY_PATH | depth,
    });
    return tree;
  } catch (error) {
    sys.close(tree);
    throw error;
  }
}

/**
 * Calls `use` with overlay options in which the lower directories are seen through a mapping.
 *
 * overlayfs takes the mapping of each layer's own mount, and has none itself. One read-only mount
 * of the directory that holds all layers is enough, and only for as long as it takes to mount: the
 * overlay keeps clones. (It must stand somewhere: before Linux 6.15 an overlay refuses layers of a
 * mount that is attached nowhere.) The upper directory stays as it is: what a container writes has
 * the ids of the host.
 */
export function withMappedLowers<T>(
  sys: Syscalls,
  usernsFd: Fd,
  { data, tempDir }: { readonly data: readonly string[]; readonly tempDir: string },
  use: (data: readonly string[]) => T,
): T {
  const lowers = overlayLowers(data);
  const common = commonDirectory(lowers);
  const at = mkdtempSync(join(tempDir, mappedLowersPrefix));
  try {
    mountMapped(sys, usernsFd, common, at, { recursive: true, set: MOUNT_ATTR.RDONLY });
    try {
      return use(lowersBelow(at, { data, lowers, common }));
    } finally {
      // Nothing waits for whoever looks into it at this moment.
      sys.umount2(at, MNT.DETACH);
    }
  } finally {
    rmdirSync(at);
  }
}

/**
 * As `withMappedLowers`, by a mount that is attached nowhere. Undefined where the kernel wants one
 * that is (before Linux 6.15).
 */
export function withDetachedLowers<T>(
  sys: Syscalls,
  usernsFd: Fd,
  data: readonly string[],
  use: (data: readonly string[]) => T,
): T | undefined {
  const lowers = overlayLowers(data);
  const common = commonDirectory(lowers);
  const tree = openMapped(sys, usernsFd, common, { recursive: true, set: MOUNT_ATTR.RDONLY });
  try {
    return use(lowersBelow(`/proc/self/fd/${tree}`, { data, lowers, common }));
  } catch (error) {
    if (isErrno(error, "EINVAL")) return undefined;
    throw error;
  } finally {
    sys.close(tree);
  }
}

function lowersBelow(
  at: string,
  of: {
    readonly data: readonly string[];
    readonly lowers: readonly string[];
    readonly common: string;
  },
): readonly string[] {
  const mapped = of.lowers.map((lower) => escapeLower(join(at, relative(of.common, lower))));
  const others = of.data.filter((option) => !option.startsWith("lowerdir="));
  return [...others, `lowerdir=${mapped.join(":")}`];
}

/** The nearest directory that has all of them below it. Throws where that is the root. */
function commonDirectory(paths: readonly string[]): string {
  let common = dirname(paths[0] ?? "");
  while (common !== "/" && !paths.every((path) => path.startsWith(`${common}/`))) {
    common = dirname(common);
  }
  if (common !== "/" && common !== ".") return common;
  throw invalidArgument(`id mapping of lowerdir=${paths.join(":")}: no directory holds them all`);
}
