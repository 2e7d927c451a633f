import type { Mount } from "#core/mount/mount.ts";
import type { GrowingFile } from "#pkg/archive/growing-file.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

export interface ApplyOptions {
  /** Payloads for stream processors, by their id. */
  readonly payloads?: Readonly<Record<string, Any>> | undefined;
  /** Where the blob is not in the content store yet. */
  readonly arriving?: ArrivingBlob | undefined;
  /** Sync the file system before the answer; always done where the configuration's `sync_fs` says so. */
  readonly syncFs?: boolean | undefined;
}

/** A blob on its way into the content store. What is unpacked of it counts only once it is stored. */
export interface ArrivingBlob {
  /** The applier need not wait for all of it. Not its to dispose. */
  readonly file: GrowingFile;
  /** Resolves when the content store has it; rejects when it will not. */
  readonly stored: Promise<void>;
}

/** Unpacks layers. Several differs are tried in the configured order; `not-implemented` hands on to the next. */
export interface Applier {
  /**
   * Applies the layer blob to the tree that `mounts` give, and answers what was applied: the uncompressed tar's media
   * type, digest (the diff id) and size. Reads the blob from the content store of `ctx.namespace`, or along with who
   * writes it there.
   *
   * On failure the tree is in no defined state: its snapshot is to be removed.
   */
  apply(
    ctx: Context,
    layer: Descriptor,
    mounts: readonly Mount[],
    options?: ApplyOptions,
  ): Promise<Descriptor>;
}

export interface CompareOptions {
  /** Media type of the layer made; gzip when absent. */
  readonly mediaType?: string | undefined;
  /** Ref of the ingest to write under; one is made up when absent. */
  readonly ref?: string | undefined;
  readonly labels?: Labels | undefined;
  /** Upper bound of all times in the layer. */
  readonly sourceDateEpoch?: UnixNanos | undefined;
}

export interface Comparer {
  /** Writes what `upper` has over `lower` as a layer blob into the content store. */
  compare(
    ctx: Context,
    lower: readonly Mount[],
    upper: readonly Mount[],
    options?: CompareOptions,
  ): Promise<Descriptor>;
}

export interface Differ extends Applier, Comparer {}
