import type { Applier } from "#core/diff/diff.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import type { GrowingFile } from "#pkg/archive/growing-file.ts";
import type { Context } from "#pkg/context.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import type { Platform } from "#pkg/platform.ts";

/** Where images of a platform are unpacked to, and by what. */
export interface UnpackTarget {
  readonly matches: (platform: Platform) => boolean;
  readonly snapshotterName: string;
  readonly snapshotter: Snapshotter;
  /** `rebase`: a layer may be unpacked on nothing and be given its parent when it is committed. */
  readonly capabilities: ReadonlySet<string>;
  /** Its snapshotter is told what image a layer is of. */
  readonly wantsImageInfo: boolean;
  readonly applier: Applier;
  /** The one media type of configurations it takes; empty: those of images. */
  readonly configType: string;
  /** Media types that are layers beside the known ones. */
  readonly layerTypes: readonly string[];
}

/** At most so many at once; the place is held until it is disposed. */
export interface Limiter {
  acquire(ctx: Context): Promise<Disposable>;
}

/**
 * Brings a blob into the content store. Resolves at once for one that is there.
 *
 * `onArriving` is called at most once, when the first bytes of a large blob have come, with a file to read along that
 * is the callee's to dispose.
 */
export type FetchBlob = (
  ctx: Context,
  descriptor: ImageDescriptor,
  onArriving?: (file: GrowingFile) => void,
) => Promise<void>;

export type UnpackProgress = (
  layer: ImageDescriptor,
  event: "extracting" | "extracted" | "exists",
) => void;
