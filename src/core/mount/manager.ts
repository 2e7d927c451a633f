import type { Mount } from "#core/mount/mount.ts";
import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

/** A mount that the manager has made. */
export interface ActiveMount extends Mount {
  readonly mountedAt: UnixNanos;
  readonly mountPoint: string;
  /** What its handler tells those after it. */
  readonly data: Readonly<Record<string, string>>;
}

/** Mounts that were made under one name, and those that are left for whoever uses them. */
export interface Activation {
  readonly name: string;
  readonly active: readonly ActiveMount[];
  readonly system: readonly Mount[];
  readonly labels: Labels;
}

/**
 * What the caller does itself: base types (`erofs`) and transforms (`format`, for `format/bind`
 * and `format/mkdir/overlay` alike). It is done here all the same where something after it needs
 * it.
 */
export interface MountClaims {
  readonly types: readonly string[];
  readonly transforms: readonly string[];
}

export interface ActivateOptions {
  readonly labels?: Labels;
  /** Makes every mount, whatever is claimed, and leaves one bind mount to reach the last. */
  readonly temporary?: boolean;
  readonly claims?: MountClaims;
  /**
   * Nothing collects it before it is deactivated, or this process ends. For callers in the
   * manager's own process.
   */
  readonly held?: boolean;
}

/**
 * Makes those mounts of a list that the kernel alone cannot: a type may have prefixes
 * (`format/mkdir/overlay`) that change the mount before it is made, and handlers make types of
 * their own. What comes before such a mount is made too.
 *
 * An activation lives as long as its lease, an object that a label
 * `containerd.io/gc.bref.{container,content,image,snapshot.<name>}` of it names, or an object whose
 * `gc.ref.mount` names it. It outlives the daemon, not a reboot.
 */
export interface MountManager {
  /**
   * Throws `not-implemented` when nothing has to be done here: the list is used as it is.
   * `already-exists` for a name that is taken; `invalid-argument` for a mount that makes no sense.
   */
  activate(
    ctx: Context,
    name: string,
    mounts: readonly Mount[],
    options?: ActivateOptions,
  ): Promise<Activation>;
  /** Throws `not-found`. The name is free again also when something stays mounted. */
  deactivate(ctx: Context, name: string): Promise<void>;
  /** Throws `not-found`. */
  info(ctx: Context, name: string): Promise<Activation>;
  /** By name; filters know `name` and `labels`. */
  list(ctx: Context, filters?: readonly string[]): Promise<readonly Activation[]>;
}

/** Makes mounts of one type, by which it is registered. */
export interface MountHandler {
  /** `mountPoint` is not there yet; whatever is made of it, `unmount` removes it. */
  mount(
    ctx: Context,
    mount: Mount,
    mountPoint: string,
    before: readonly ActiveMount[],
  ): Promise<ActiveMount>;
  /** What is not mounted any more is no failure. */
  unmount(ctx: Context, mountPoint: string): Promise<void>;
  /** Whether what `mount` made is still there, for a daemon that finds it after another. */
  isMounted(mountPoint: string): Promise<boolean>;
}

/** Changes a mount before it is made. */
export type MountTransform = (
  ctx: Context,
  mount: Mount,
  before: readonly ActiveMount[],
) => Promise<Mount>;
