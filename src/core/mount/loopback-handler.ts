import { lstat, readlink, rm, symlink } from "node:fs/promises";
import { attachLoop, findWritable, keepLoop, openDevice } from "#core/mount/loop-device.ts";
import type { ActiveMount, MountHandler } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Context } from "#pkg/context.ts";
import { failedPrecondition, invalidArgument, isErrno, wrap } from "#pkg/errors.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { nowNanos } from "#pkg/time.ts";

/**
 * Makes `loop` mounts: the mount point is a link to a block device that shows the source, a file.
 * Options are `ro` and `direct-io`.
 */
export class LoopbackHandler implements MountHandler {
  readonly #sys: Syscalls;
  readonly #locks = new KeyedMutex();

  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  async mount(ctx: Context, mount: Mount, mountPoint: string): Promise<ActiveMount> {
    const unknown = mount.options.find((option) => !["ro", "rw", "direct-io"].includes(option));
    if (unknown !== undefined)
      throw invalidArgument(`loop mount option ${JSON.stringify(unknown)}`);
    const readOnly = mount.options.includes("ro");
    const { dev, ino } = this.#sys.fstatat(AT.FDCWD, mount.source, 0);
    using _ = await this.#locks.acquire(`${dev.major}:${dev.minor}:${ino}`, ctx.signal);
    if (!readOnly) {
      // Two devices that write one file know nothing of each other.
      using other = await findWritable(this.#sys, { dev, ino });
      if (other) {
        throw failedPrecondition(`${mount.source} is written by way of ${other.path} already`);
      }
    }
    const directIo = mount.options.includes("direct-io");
    using device = await attachLoop(ctx, this.#sys, mount.source, { readOnly, directIo });
    await symlink(device.path, mountPoint);
    // Not before: without the link nobody would end it.
    keepLoop(this.#sys, device.fd, "kept");
    return { ...mount, mountedAt: nowNanos(), mountPoint, data: {} };
  }

  async unmount(ctx: Context, mountPoint: string): Promise<void> {
    const path = await readLink(mountPoint);
    if (path === undefined) return;
    try {
      using device = openDevice(this.#sys, path, O.RDONLY);
      // As long as it is open here it shows the same file: the link goes before the device does.
      const isThere = keepLoop(this.#sys, device.fd, "cleared");
      await rm(mountPoint).catch((error: unknown) => {
        if (isThere) keepLoop(this.#sys, device.fd, "kept");
        throw error;
      });
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENXIO")) throw wrap(`loop device ${path}`, error);
      ctx.logger.warn("a loop device is gone", { path, mountPoint });
      await rm(mountPoint, { force: true });
    }
  }

  async isMounted(mountPoint: string): Promise<boolean> {
    return (await readLink(mountPoint)) !== undefined;
  }
}

/** Undefined where there is none. */
async function readLink(path: string): Promise<string | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
