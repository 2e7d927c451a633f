import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunProgram } from "#core/mount/mount-program.ts";
import type { Mount } from "#core/mount/mount.ts";
import { Mounter } from "#core/mount/mounter.ts";
import type { Context } from "#pkg/context.ts";
import { mountedBelow } from "#core/runtime/bundle-mounts.ts";
import { isErrno, wrap } from "#pkg/errors.ts";
import { MNT } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/** Where the runtime finds a container's root when the client has given mounts. */
export function rootfsOf(bundle: string): string {
  return join(bundle, "rootfs");
}

/**
 * Mounts what a container stands on. On a failure what this call had mounted is unmounted again.
 *
 * The error reads as upstream's, `failed to mount rootfs component: ...`.
 */
export async function mountRootfs(
  {
    ctx,
    sys,
    runProgram,
  }: { readonly ctx: Context; readonly sys: Syscalls; readonly runProgram: RunProgram },
  mounts: readonly Mount[],
  rootfs: string,
): Promise<void> {
  await mkdir(rootfs, { recursive: true, mode: 0o711 });
  try {
    await new Mounter({ sys, tempDir: tmpdir(), run: runProgram }).mountAll(ctx, mounts, rootfs);
  } catch (error) {
    throw wrap("failed to mount rootfs component", error);
  }
}

/**
 * Unmounts everything at and below a directory, the last mounted first. Nothing mounted is fine.
 *
 * Never on this thread: with a container's root all that it wrote goes to the disk, and the other
 * containers are not to wait for that.
 */
export async function unmountBelow(sys: Pick<Syscalls, "unmount">, rootfs: string): Promise<void> {
  for (const target of (await mountedBelow(rootfs)).toReversed()) {
    try {
      await sys.unmount(target, MNT.NOFOLLOW);
    } catch (error) {
      if (isErrno(error, "EINVAL", "ENOENT")) continue;
      // Somebody has a file open in it: gone from the tree at once, from the kernel with its last
      // user.
      if (!isErrno(error, "EBUSY")) throw error;
      await sys.unmount(target, MNT.NOFOLLOW | MNT.DETACH);
    }
  }
}
