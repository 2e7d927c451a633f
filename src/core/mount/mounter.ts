import { mkdtemp, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { mountMapped, openMapping, withMappedLowers } from "#core/mount/idmapped.ts";
import { shareLoop } from "#core/mount/loop-device.ts";
import { isHelped, mountByHelper } from "#core/mount/mount-helper.ts";
import type { RunProgram } from "#core/mount/mount-program.ts";
import type { Mount } from "#core/mount/mount.ts";
import {
  type MountPlan,
  planMount,
  propagationFlags,
  readOnlyMounts,
  withoutVolatile,
} from "#core/mount/options.ts";
import { mountOverlay, overlayDataMax } from "#core/mount/overlay.ts";
import { tempMountPrefix, undoTempMounts } from "#core/mount/temp-mounts.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, isErrno, notImplemented, wrap } from "#pkg/errors.ts";
import type { BlockingPool } from "#pkg/sys/blocking.ts";
import { AT, MS, O, RESOLVE } from "#pkg/sys/constants.ts";
import type { Fd, Path, Syscalls } from "#pkg/sys/syscall.ts";

export interface MounterOptions {
  readonly sys: Syscalls;
  /** Where temporary mounts are made. */
  readonly tempDir: string;
  /** For unmounting, which hangs where a network file system is dead; without it, on this thread. */
  readonly blocking?: Pick<BlockingPool, "run"> | undefined;
  /** For types that helpers mount; without it, they are refused. */
  readonly run?: RunProgram | undefined;
}

const busyTriesMax = 50;
const busyWaitMs = 50;
/** How long undoing a temporary mount may take after its context has ended. */
const cleanupMs = 10_000;

/** Makes and undoes mounts as snapshotters describe them. */
export class Mounter {
  readonly #sys: Syscalls;
  readonly #tempDir: string;
  readonly #blocking: MounterOptions["blocking"];
  readonly #run: MounterOptions["run"];

  /** One that alone makes mounts in its `tempDir`: what a killed process left there is undone first. */
  static async open(ctx: Context, options: MounterOptions): Promise<Mounter> {
    await undoTempMounts(ctx, options.sys, options.tempDir);
    return new Mounter(options);
  }

  constructor({ sys, tempDir, blocking, run }: MounterOptions) {
    this.#sys = sys;
    this.#blocking = blocking;
    this.#run = run;
    this.#tempDir = tempDir;
  }

  /**
   * Makes the mounts in order at `target`, each at its own `target` below it (symlinks there stay
   * inside). When one fails, those before it are undone.
   */
  async mountAll(ctx: Context, mounts: readonly Mount[], target: string): Promise<void> {
    for (const [made, mount] of mounts.entries()) {
      ctx.throwIfEnded();
      try {
        await this.#mount(ctx, mount, target);
      } catch (error) {
        const undo = ctx.detached({ timeoutMs: cleanupMs });
        await this.unmountMounts(undo, mounts.slice(0, made), target).catch((failure: unknown) => {
          ctx.logger.warn("failed to undo mounts", { target, error: failure });
        });
        throw wrap(`mount ${mount.type} ${mount.source} at ${join(target, mount.target)}`, error);
      }
    }
  }

  /**
   * Unmounts whatever is stacked at `target`; nothing happens when nothing is, or the path is gone.
   */
  async unmountAll(ctx: Context, target: string, flags = 0): Promise<void> {
    if (target === "") return;
    while (await this.#unmountOne(ctx, target, flags));
  }

  /** Undoes `mountAll`. */
  async unmountMounts(ctx: Context, mounts: readonly Mount[], target: string): Promise<void> {
    for (const mount of mounts.toReversed()) {
      const path = mount.target === "" ? target : this.#resolve(target, mount.target);
      if (path !== undefined) await this.unmountAll(ctx, path);
    }
  }

  /** Calls `use` with a directory where the mounts are made, and undoes them whatever happens. */
  async withTempMount<T>(
    ctx: Context,
    mounts: readonly Mount[],
    use: (root: string) => Promise<T>,
  ): Promise<T> {
    const root = await mkdtemp(join(this.#tempDir, tempMountPrefix));
    const made = withoutVolatile(mounts);
    try {
      await this.mountAll(ctx, made, root);
      return await use(root);
    } finally {
      const undo = ctx.detached({ timeoutMs: cleanupMs });
      await this.unmountMounts(undo, made, root).catch((error: unknown) => {
        ctx.logger.error("failed to unmount a temporary mount", { dir: root, error });
      });
      // Never recursive: if it is still mounted, that would delete what is mounted.
      await rmdir(root).catch((error: unknown) => {
        ctx.logger.error("failed to remove mount temp dir", { dir: root, error });
      });
    }
  }

  async withReadOnlyTempMount<T>(
    ctx: Context,
    mounts: readonly Mount[],
    use: (root: string) => Promise<T>,
  ): Promise<T> {
    return this.withTempMount(ctx, readOnlyMounts(mounts), use);
  }

  async #mount(ctx: Context, mount: Mount, root: string): Promise<void> {
    if (mount.target === "") return this.#mountAt(ctx, mount, root);
    const fd = this.#openBelow(root, mount.target);
    try {
      const target = `/proc/self/fd/${fd}`;
      // Another program has other descriptors.
      const path = isHelped(mount.type) ? this.#readLink(target) : target;
      await this.#mountAt(ctx, mount, path);
    } finally {
      this.#sys.close(fd);
    }
  }

  async #mountAt(ctx: Context, mount: Mount, target: string): Promise<void> {
    if (isHelped(mount.type)) {
      if (!this.#run) throw notImplemented(`mount type ${mount.type}: mount helpers`);
      return mountByHelper(ctx, this.#run, mount, target);
    }
    if (mount.type.includes("/")) {
      throw notImplemented(`mount type ${mount.type}: the mount manager`);
    }
    const plan = planMount(mount.options);
    if (!plan.loop) return this.#mountPlanned(mount, target, plan);
    const readOnly = (plan.flags & MS.RDONLY) !== 0;
    const { directIo } = plan.loop;
    using device = await shareLoop(ctx, this.#sys, mount.source, { readOnly, directIo });
    this.#mountPlanned({ ...mount, source: device.path }, target, plan);
  }

  #mountPlanned(mount: Mount, target: Path, plan: MountPlan): void {
    const flags = plan.flags & ~propagationFlags;
    const isRemountOnly = (flags & MS.REMOUNT) !== 0 && plan.data.length === 0;
    const mapping = openMapping(this.#sys, plan);
    try {
      if (mapping !== undefined) this.#createMapped(mount, target, plan, mapping);
      else if (!isRemountOnly) this.#create(mount, target, plan.data, flags);
    } finally {
      if (mapping !== undefined) this.#sys.close(mapping);
    }
    this.#finish(mount, target, plan, flags);
  }

  #createMapped(mount: Mount, target: Path, plan: MountPlan, mapping: Fd): void {
    const flags = plan.flags & ~propagationFlags;
    if ((flags & MS.REMOUNT) !== 0) throw invalidArgument("mount option remount with id mappings");
    if (mount.type === "overlay") {
      const from = { data: plan.data, tempDir: this.#tempDir };
      withMappedLowers(this.#sys, mapping, from, (data) => {
        this.#create(mount, target, data, flags);
      });
      return;
    }
    if ((flags & MS.BIND) !== 0) {
      const recursive = (flags & MS.REC) !== 0;
      mountMapped(this.#sys, mapping, mount.source, target, { recursive });
      return;
    }
    this.#create(mount, target, plan.data, flags);
    try {
      // On top of the other, which a mount that is in use could not be changed into.
      mountMapped(this.#sys, mapping, target, target, { recursive: false });
    } catch (error) {
      this.#sys.umount2(target, 0);
      throw error;
    }
  }

  #create(mount: Mount, target: Path, options: readonly string[], flags: number): void {
    const data = options.join(",");
    if (mount.type === "overlay" && data.length > overlayDataMax) {
      mountOverlay(this.#sys, target, options, flags);
      return;
    }
    this.#sys.mount(target, {
      source: mount.source,
      // Linux has no such type; the flag says it.
      fstype: mount.type === "bind" || mount.type === "rbind" ? "" : mount.type,
      flags,
      data,
    });
  }

  #finish(mount: Mount, target: Path, plan: MountPlan, flags: number): void {
    try {
      const propagation = plan.flags & propagationFlags;
      if (propagation !== 0) {
        const change = propagation | (plan.flags & (MS.REC | MS.SILENT));
        this.#sys.mount(target, { source: "", fstype: "", flags: change });
      }
      const readOnlyBind = MS.BIND | MS.RDONLY;
      if ((flags & readOnlyBind) === readOnlyBind) {
        // A bind mount takes its flags only when it is changed afterwards.
        const kept = this.#lockedFlags(target);
        this.#sys.mount(target, { source: "", fstype: "", flags: flags | kept | MS.REMOUNT });
      }
    } catch (error) {
      if ((flags & MS.REMOUNT) === 0) this.#sys.umount2(target, 0);
      throw wrap(`change ${mount.type} mount`, error);
    }
  }

  /** What a bind mount has from its source and a user namespace may not take away. */
  #lockedFlags(target: Path): number {
    const { flags } = this.#sys.statfs(target);
    // ST_NOSUID, ST_NODEV and ST_NOEXEC have the values of MS_*.
    return flags & (MS.NOSUID | MS.NODEV | MS.NOEXEC);
  }

  async #unmountOne(ctx: Context, target: string, flags: number): Promise<boolean> {
    for (let tries = 1; ; tries++) {
      try {
        if (this.#blocking) await this.#blocking.run(ctx, "umount2", target, flags);
        else this.#sys.umount2(target, flags);
        return true;
      } catch (error) {
        if (isErrno(error, "EINVAL", "ENOENT")) return false;
        if (!isErrno(error, "EBUSY") || tries >= busyTriesMax) {
          throw wrap(`failed to unmount target ${target}`, error);
        }
      }
      // A descriptor that some process is just about to close holds it for a moment.
      await delay(busyWaitMs, undefined, { signal: ctx.signal });
    }
  }

  /** What `path` names below `root`, symlinks resolved inside it. */
  #openBelow(root: string, path: string): Fd {
    const top = this.#sys.openat(AT.FDCWD, root, O.PATH | O.DIRECTORY);
    try {
      return this.#sys.openat2(top, path, { flags: O.PATH, resolve: RESOLVE.IN_ROOT });
    } finally {
      this.#sys.close(top);
    }
  }

  #readLink(path: string): string {
    return this.#sys.readlinkat(AT.FDCWD, path).toString("utf8");
  }

  #resolve(root: string, path: string): string | undefined {
    try {
      const fd = this.#openBelow(root, path);
      try {
        // By path: an open descriptor would keep the mount busy.
        return this.#readLink(`/proc/self/fd/${fd}`);
      } finally {
        this.#sys.close(fd);
      }
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  }
}
