import { mkdir, rmdir } from "node:fs/promises";
import { FsContext } from "#core/mount/fs-context.ts";
import { attachLoop } from "#core/mount/loop-device.ts";
import type { ActiveMount, MountHandler } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Mounter } from "#core/mount/mounter.ts";
import { planMount, propagationFlags } from "#core/mount/options.ts";
import { isMountPoint } from "#core/runtime/bundle-mounts.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, isErrno, notImplemented, wrap } from "#pkg/errors.ts";
import { MS } from "#pkg/sys/constants.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { nowNanos } from "#pkg/time.ts";

const verityPrefix = "X-containerd.dmverity=";
const devicePrefix = "device=";

/**
 * Mounts EROFS images from their files (Linux 6.12), or, where the kernel wants block devices, by
 * loop devices. An option `device=FILE` names another file that the image has data in, once for
 * each.
 */
export class ErofsHandler implements MountHandler {
  readonly #sys: Syscalls;
  readonly #mounter: Pick<Mounter, "unmountAll">;
  /** Learnt by the first mount: a kernel does not change its mind. */
  #wantsDevices = false;

  constructor(sys: Syscalls, mounter: Pick<Mounter, "unmountAll">) {
    this.#sys = sys;
    this.#mounter = mounter;
  }

  async mount(ctx: Context, mount: Mount, mountPoint: string): Promise<ActiveMount> {
    if (mount.options.some((option) => option.startsWith(verityPrefix))) {
      // A layer whose content is to be verified must not be mounted without.
      throw notImplemented("layer requires dm-verity, which is not supported");
    }
    const asked = { ...mount, options: mount.options.filter((option) => option !== "loop") };
    await mkdir(mountPoint, { mode: 0o700 });
    const made = await this.#make(ctx, asked, mountPoint).catch((error: unknown) => {
      throw wrap(`erofs ${mount.source}`, error);
    });
    return { ...made, mountedAt: nowNanos(), mountPoint, data: {} };
  }

  async unmount(ctx: Context, mountPoint: string): Promise<void> {
    await this.#mounter.unmountAll(ctx, mountPoint);
    await rmdir(mountPoint).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
  }

  async isMounted(mountPoint: string): Promise<boolean> {
    return isMountPoint(mountPoint);
  }

  async #make(ctx: Context, mount: Mount, mountPoint: string): Promise<Mount> {
    if (!this.#wantsDevices) {
      try {
        this.#mountFrom(mount, mountPoint);
        return mount;
      } catch (error) {
        if (!isErrno(error, "ENOTBLK")) throw error;
        this.#wantsDevices = true;
      }
    }
    using devices = new DisposableStack();
    const show = async (file: string): Promise<string> =>
      devices.use(await attachLoop(ctx, this.#sys, file, { readOnly: true })).path;
    const source = await show(mount.source);
    const options: string[] = [];
    for (const option of mount.options) {
      const isDevice = option.startsWith(devicePrefix);
      const file = option.slice(devicePrefix.length);
      options.push(isDevice ? `${devicePrefix}${await show(file)}` : option);
    }
    const shown = { ...mount, source, options };
    this.#mountFrom(shown, mountPoint);
    return shown;
  }

  #mountFrom({ type, source, options }: Mount, mountPoint: string): void {
    const { flags, data, uidMap, gidMap } = planMount(options);
    const isPlain = (flags & (propagationFlags | MS.BIND | MS.REMOUNT)) === 0;
    if (!isPlain || uidMap !== undefined || gidMap !== undefined) {
      throw invalidArgument(`erofs mount options ${options.join(",")}`);
    }
    using fs = new FsContext(this.#sys, type);
    // Before the source, which else is opened for writing.
    fs.setFlags(flags);
    fs.setPath("source", source);
    for (const option of data) fs.setOption(option, ["device"]);
    fs.mount(mountPoint, flags);
  }
}
