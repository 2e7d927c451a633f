import type { Mount } from "#core/mount/mount.ts";
import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

/** `view` and `active` are known by a key and can be mounted; `committed` is known by a name and can be a parent. */
export type SnapshotKind = "view" | "active" | "committed";

export interface SnapshotInfo {
  readonly kind: SnapshotKind;
  /** Key or name: the two share one space. */
  readonly name: string;
  /** Empty for a snapshot without a parent. */
  readonly parent: string;
  readonly labels: Labels;
  readonly createdAt: UnixNanos;
  readonly updatedAt: UnixNanos;
}

export interface SnapshotUsage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

export interface SnapshotOptions {
  readonly labels?: Labels | undefined;
  /** Commit only: rebase onto this parent (needs the capability `rebase`). */
  readonly parent?: string | undefined;
}

/**
 * Allocates, stacks and gives up file system trees.
 *
 * A transaction: `prepare` an active snapshot on a committed parent, mount it, change files, `commit` it under a name
 * that others may build on, or `remove` it. Held by each backend (whose keys are opaque), by metadata over it
 * (namespaced, leased, labelled) and by the gRPC proxy; `core/snapshots/suite.ts` is the contract.
 */
export interface Snapshotter extends AsyncDisposable {
  /** Throws `not-found`. */
  stat(ctx: Context, name: string): Promise<SnapshotInfo>;
  /** Changes labels only: fields `labels` or `labels.KEY`; others throw `invalid-argument`. */
  update(
    ctx: Context,
    info: { readonly name: string; readonly labels: Labels },
    fields?: readonly string[],
  ): Promise<SnapshotInfo>;
  /** What this snapshot alone takes, parents not counted. Of an active one: now, by walking it. */
  usage(ctx: Context, name: string): Promise<SnapshotUsage>;
  /** The mounts of an active snapshot or a view. Throws `not-found`, `failed-precondition` for a committed one. */
  mounts(ctx: Context, key: string): Promise<readonly Mount[]>;
  /** A writable snapshot on `parent` (empty: on nothing). Throws `already-exists`, `not-found`, `invalid-argument`. */
  prepare(
    ctx: Context,
    key: string,
    parent: string,
    options?: SnapshotOptions,
  ): Promise<readonly Mount[]>;
  /** A read-only one, which can be mounted but not committed. */
  view(
    ctx: Context,
    key: string,
    parent: string,
    options?: SnapshotOptions,
  ): Promise<readonly Mount[]>;
  /**
   * Writes back the files of active snapshots, all at once, for commits that follow: those need not wait for the disk
   * again. Nothing may be written into the snapshots in between. Does nothing where commits do not wait for the disk.
   */
  flush?(ctx: Context, keys: readonly string[]): Promise<void>;
  /** Turns active `key` into committed `name`; `key` is gone after. Throws `already-exists`, `not-found`. */
  commit(ctx: Context, name: string, key: string, options?: SnapshotOptions): Promise<void>;
  /** Throws `not-found`, and `failed-precondition` while it has children. */
  remove(ctx: Context, key: string): Promise<void>;
  list(ctx: Context, filters?: readonly string[]): AsyncIterable<SnapshotInfo>;
  /** Frees what removed snapshots left on disk. Throws `not-implemented` where removal is synchronous. */
  cleanup(ctx: Context): Promise<void>;
  close(): Promise<void>;
}
