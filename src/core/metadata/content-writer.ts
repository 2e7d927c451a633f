import type {
  CommitOptions,
  ContentStore,
  ContentWriter,
  IngestStatus,
} from "#core/content/content.ts";
import { contentCreate } from "#core/events/convert.ts";
import { topics } from "#core/events/topics.ts";
import { findBlob, removeIngest } from "#core/metadata/content-rows.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { alreadyExists, failedPrecondition, isAlreadyExists } from "#pkg/errors.ts";
import { assertLabels, type Labels, withoutEmpty } from "#pkg/label.ts";
import { encodeMap } from "#pkg/sqlite/row.ts";
import { nowNanos } from "#pkg/time.ts";

interface WriterParts {
  /** Of the call that opened it. */
  readonly ctx: Context;
  readonly state: MetadataState;
  readonly backend: ContentStore;
  readonly ns: string;
  readonly ref: string;
  readonly backendRef: string;
  /** Absent while the blob is taken over from another namespace as it is. */
  readonly inner: ContentWriter | undefined;
  readonly mediaType: string;
  readonly expected: Digest | undefined;
  readonly sharedBytes: number;
}

interface NewBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly labels: Labels;
}

const emptyDigest = digestOf("");

/** A backend's writer under a namespace's ref; its commit makes the namespace's record. */
export class NamespacedWriter implements ContentWriter {
  readonly #parts: WriterParts;
  readonly #openedAt = nowNanos();
  #inner: ContentWriter | undefined;
  /** Committed or closed; the first of the two decides. */
  #ended = false;

  constructor(parts: WriterParts) {
    this.#parts = parts;
    this.#inner = parts.inner;
  }

  status(): IngestStatus {
    const { ref, expected, sharedBytes } = this.#parts;
    if (this.#inner) return { ...this.#inner.status(), ref };
    return {
      ref,
      offset: sharedBytes,
      total: sharedBytes,
      expected,
      startedAt: this.#openedAt,
      updatedAt: this.#openedAt,
    };
  }

  get path(): string | undefined {
    return this.#inner?.path;
  }

  digest(): Digest {
    return this.#inner?.digest() ?? this.#parts.expected ?? emptyDigest;
  }

  async write(data: Uint8Array): Promise<void> {
    this.#assertOpen();
    if (!this.#inner && data.length === 0) return;
    const inner = this.#inner ?? (await this.#unshare(this.#parts.sharedBytes));
    await inner.write(data);
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#assertOpen();
    const inner = this.#inner ?? (await this.#unshare(0));
    await inner.truncate(sizeBytes);
  }

  async commit(commitCtx: Context, options: CommitOptions = {}): Promise<Digest> {
    if (this.#ended) throw failedPrecondition("cannot commit on closed writer");
    this.#ended = true;
    try {
      return await this.#commit(commitCtx.withNamespace(this.#parts.ns), options);
    } finally {
      await this.#inner?.close();
    }
  }

  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#inner?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #commit(ctx: Context, options: CommitOptions): Promise<Digest> {
    const labels = options.labels ?? {};
    assertLabels(labels);
    const { offset } = this.status();
    const { sizeBytes = 0 } = options;
    if (sizeBytes !== 0 && sizeBytes !== offset) {
      throw failedPrecondition(
        `"${this.#parts.ref}" failed size validation: ${offset} != ${sizeBytes}`,
      );
    }
    const digest = options.expected ?? this.digest();
    using _lock = await this.#parts.state.locks.acquire(`content ${digest}`, ctx.signal);
    await this.#commitInner(ctx, digest);
    this.#parts.state.failpoints.hit("metadata.content-before-record");
    const existed = await this.#recordOrMark(ctx, { digest, sizeBytes: offset, labels });
    if (existed) throw alreadyExists(`content ${digest}`);
    await this.#parts.state.publish(
      ctx,
      topics.contentCreate,
      contentCreate({ digest, sizeBytes: offset, mediaType: this.#parts.mediaType }),
    );
    return digest;
  }

  #assertOpen(): void {
    if (this.#ended) throw failedPrecondition("cannot write to closed writer");
  }

  async #commitInner(ctx: Context, expected: Digest): Promise<void> {
    if (!this.#inner) {
      if (expected !== this.#parts.expected) {
        throw failedPrecondition(`"${this.#parts.ref}" unexpected digest`);
      }
      // Its ingest may have been aborted or collected since, and the blob with what else kept it.
      await this.#parts.backend.info(ctx, expected);
      return;
    }
    try {
      await this.#inner.commit(ctx, { expected });
    } catch (error) {
      // Another namespace brought it first; this one only lacks its record.
      if (!isAlreadyExists(error)) throw error;
    }
  }

  async #recordOrMark(ctx: Context, blob: NewBlob): Promise<boolean> {
    try {
      return await this.#record(ctx, blob);
    } catch (error) {
      // The backend has a blob that no record may name.
      this.#parts.state.dirtyBackends.add("content");
      throw error;
    }
  }

  async #record(ctx: Context, blob: NewBlob): Promise<boolean> {
    const { ns, ref } = this.#parts;
    const labels = withoutEmpty(blob.labels);
    return this.#parts.state.update((tx) => {
      const ingest = tx.findNode(ns, "ingest", ref);
      if (ingest !== undefined) removeIngest(tx, ctx, ingest);
      tx.ensureNamespace(ns);
      const node = tx.node(ns, "content", blob.digest);
      tx.addToLease(ctx, node);
      if (findBlob(tx, ns, blob.digest)) return true;
      const now = nowNanos();
      const { root } = tx.setLinks(ns, node, labels);
      tx.sql.run(
        `INSERT INTO blobs (node, size, root, labels, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)`,
        node,
        blob.sizeBytes,
        Number(root),
        encodeMap(labels),
        now,
      );
      return false;
    });
  }

  /** Gives up the shared blob for an ingest of its own that starts with the blob's first `keepBytes`. */
  async #unshare(keepBytes: number): Promise<ContentWriter> {
    const { ctx, state, backend, backendRef, expected } = this.#parts;
    using _ingest = await state.locks.acquire(`ingest ${backendRef}`, ctx.signal);
    await using stack = new AsyncDisposableStack();
    const inner = stack.use(await backend.writer(ctx, { ref: backendRef }));
    if (inner.status().offset > 0) await inner.truncate(0);
    if (keepBytes > 0 && expected !== undefined) {
      await using reader = await backend.open(ctx, expected);
      for await (const chunk of reader.stream({ length: keepBytes })) await inner.write(chunk);
    }
    stack.move();
    this.#inner = inner;
    return inner;
  }
}
