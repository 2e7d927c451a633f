import { readdir, readFile, realpath, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { mountPointsBelow } from "#core/runtime/bundle-mounts.ts";
import type { Context } from "#pkg/context.ts";
import { isErrno } from "#pkg/errors.ts";
import { MNT } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** To which `mkdtemp` adds six characters: where a mount is made for one use. */
export const tempMountPrefix = "containerd-mount";
/** The same for layers that an overlay is to see with other owners. */
export const mappedLowersPrefix = "ovl-idmapped";

const tempMountName = new RegExp(`^(${tempMountPrefix}|${mappedLowersPrefix})[A-Za-z0-9]{6}$`);

/**
 * Undoes the temporary mounts in `dir` that a killed process left, whose snapshots would stay in use for ever.
 *
 * The caller is the only one that makes any there. What cannot be undone is logged and left; never is anything
 * removed but an empty directory.
 */
export async function undoTempMounts(
  ctx: Context,
  sys: Pick<Syscalls, "unmount">,
  dir: string,
): Promise<void> {
  try {
    const left = (await readdir(dir)).filter((name) => tempMountName.test(name));
    if (left.length === 0) return;
    // The kernel lists mounts by where they really are.
    const real = await realpath(dir);
    const mountInfo = await readFile("/proc/self/mountinfo", "utf8");
    for (const name of left) await undo(ctx, sys, { path: join(real, name), mountInfo });
  } catch (error) {
    if (isErrno(error, "ENOENT")) return;
    ctx.logger.warn("failed to look for temporary mounts of before", { dir, error });
  }
}

async function undo(
  ctx: Context,
  sys: Pick<Syscalls, "unmount">,
  { path, mountInfo }: { readonly path: string; readonly mountInfo: string },
): Promise<void> {
  try {
    for (const point of mountPointsBelow(mountInfo, path).toReversed()) {
      // Detached, since a dead network file system would never answer.
      await sys.unmount(point, MNT.NOFOLLOW | MNT.DETACH);
    }
    await rmdir(path);
    ctx.logger.info("undid a temporary mount that was left", { path });
  } catch (error) {
    ctx.logger.warn("failed to undo a temporary mount that was left", { path, error });
  }
}
