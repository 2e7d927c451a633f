import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import type { Digest } from "#pkg/digest.ts";
import { outOfRange } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

export interface ContentInfo {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly createdAt: UnixNanos;
  readonly updatedAt: UnixNanos;
  readonly labels: Labels;
}

export interface IngestStatus {
  readonly ref: string;
  readonly offset: number;
  /** The size the writer was told to expect; 0 when unknown. */
  readonly total: number;
  readonly expected: Digest | undefined;
  readonly startedAt: UnixNanos;
  readonly updatedAt: UnixNanos;
}

export interface WriterOptions {
  readonly ref: string;
  /** Expected size and digest, if known; a blob already there fails the open with `already-exists`. */
  readonly totalBytes?: number | undefined;
  readonly expected?: Digest | undefined;
  /** Goes into the event of the commit (`mediaType`); empty over gRPC. */
  readonly mediaType?: string | undefined;
}

export interface CommitOptions {
  readonly sizeBytes?: number | undefined;
  readonly expected?: Digest | undefined;
  readonly labels?: Labels | undefined;
}

/**
 * Blobs known by their digest.
 *
 * The same interface is held by the local store (no namespaces, no labels), by metadata over it (namespaced by
 * `ctx.namespace`, labelled, leased by `ctx.lease`) and by the gRPC proxy. `core/content/suite.ts` is its contract.
 * A blob that is there is whole and durable: there is no state between absent and present.
 */
export interface ContentStore {
  /** Throws `not-found`. */
  info(ctx: Context, digest: Digest): Promise<ContentInfo>;

  /**
   * Changes labels. `fields` are `labels` or `labels.KEY`; without it all labels are replaced.
   * Throws `not-found`, and `invalid-argument` for any other field.
   */
  update(
    ctx: Context,
    info: { readonly digest: Digest; readonly labels: Labels },
    fields?: readonly string[],
  ): Promise<ContentInfo>;

  /** Every blob that matches one of the filters (none: all), in batches as the caller pulls. */
  list(ctx: Context, filters?: readonly string[]): AsyncIterable<ContentInfo>;

  /** Throws `not-found`. Through metadata only the record goes; the blob goes with the next collection. */
  delete(ctx: Context, digest: Digest): Promise<void>;

  /** Throws `not-found`. The reader stays good when the blob is deleted meanwhile. */
  open(ctx: Context, digest: Digest): Promise<ContentReader>;

  /** Throws `not-found`. */
  status(ctx: Context, ref: string): Promise<IngestStatus>;
  listStatuses(ctx: Context, filters?: readonly string[]): Promise<readonly IngestStatus[]>;

  /** Drops an ingest and what it holds. Throws `not-found`. */
  abort(ctx: Context, ref: string): Promise<void>;

  /**
   * Opens an ingest, or goes on with one: `status().offset` says what is already held.
   *
   * One writer at a time holds a ref: a second open fails with `unavailable` ("ref X locked ...") rather than waiting.
   * Throws `already-exists` when `expected` is there, `invalid-argument` for an empty ref.
   */
  writer(ctx: Context, options: WriterOptions): Promise<ContentWriter>;
}

/** Random access to one blob. Dispose closes it. */
export interface ContentReader extends AsyncDisposable {
  readonly sizeBytes: number;
  /** The blob's file when it is local, for readers that stream or hand it to a worker. */
  readonly path: string | undefined;
  /** Bytes from `offset`, at most `length`; short only at the end. Throws `out-of-range` past the end. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Chunks of at most 1 MiB from `offset` on, `length` bytes in all (default: to the end). */
  stream(range?: { readonly offset?: number; readonly length?: number }): AsyncIterable<Uint8Array>;
}

/**
 * Takes in a blob that is not yet complete. It is known by its ref until committed, from then on only by its digest,
 * and no reader sees it before. Dispose closes the writer and keeps what was written for a later resume.
 */
export interface ContentWriter extends AsyncDisposable {
  /** The file that is written, where it is local: for a descriptor of one's own, to read along. */
  readonly path?: string | undefined;
  status(): IngestStatus;
  /** The digest of what is held so far. */
  digest(): Digest;
  /** Appends; resolves when the bytes were handed to the kernel, in order. */
  write(data: Uint8Array): Promise<void>;
  /** Only 0 is allowed, and drops everything held; any other size throws `not-implemented`. */
  truncate(sizeBytes: number): Promise<void>;
  /**
   * Makes the blob visible under its digest, durable before this resolves.
   *
   * The writer is closed whatever happens. Throws `failed-precondition` when size or digest is not as expected (the
   * ingest stays), and `already-exists` when the blob was there (the ingest is dropped); the caller may treat the
   * latter as success.
   */
  commit(ctx: Context, options?: CommitOptions): Promise<Digest>;
  close(): Promise<void>;
}

/** Reads a whole small blob (a manifest, a config). Throws `out-of-range` above `maxBytes`. */
export async function readBlob(
  ctx: Context,
  store: ContentStore,
  descriptor: Pick<Descriptor, "digest">,
  maxBytes: number,
): Promise<Uint8Array> {
  await using reader = await store.open(ctx, descriptor.digest);
  if (reader.sizeBytes > maxBytes) {
    throw outOfRange(
      `content ${descriptor.digest} of ${reader.sizeBytes} bytes, at most ${maxBytes}`,
    );
  }
  return reader.read(0, reader.sizeBytes);
}
