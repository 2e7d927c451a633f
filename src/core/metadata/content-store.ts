import type {
  ContentInfo,
  ContentReader,
  ContentStore,
  ContentWriter,
  IngestStatus,
  WriterOptions,
} from "#core/content/content.ts";
import { contentField, statusField } from "#core/content/filter-fields.ts";
import { contentDelete } from "#core/events/convert.ts";
import { topics } from "#core/events/topics.ts";
import {
  backendNames,
  decodeBlob,
  findBlob,
  findIngest,
  isBlobNamed,
  isShareable,
  recordedSize,
  recordIngest,
  removeIngest,
} from "#core/metadata/content-rows.ts";
import { NamespacedWriter } from "#core/metadata/content-writer.ts";
import { backendKey, type MetadataState } from "#core/metadata/state.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import {
  alreadyExists,
  CodedError,
  invalidArgument,
  isNotFound,
  notFound,
  wrap,
} from "#pkg/errors.ts";
import { maskedLabels } from "#pkg/field-mask.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { assertLabels, type Labels, withoutEmpty } from "#pkg/label.ts";
import { encodeMap, text } from "#pkg/sqlite/row.ts";
import { nowNanos } from "#pkg/time.ts";

const batchSize = 100;
const statusesAtOnce = 16;

/** Blobs by namespace over a store without: records here, bytes there. */
export class NamespacedContentStore implements ContentStore {
  readonly #state: MetadataState;
  readonly #backend: ContentStore;
  readonly #shared: boolean;

  constructor(state: MetadataState, backend: ContentStore, policy: "shared" | "isolated") {
    this.#state = state;
    this.#backend = backend;
    this.#shared = policy === "shared";
  }

  async info(ctx: Context, digest: Digest): Promise<ContentInfo> {
    const ns = requireNamespace(ctx);
    const info = await this.#state.view((tx) => findBlob(tx, ns, digest)?.info);
    if (!info) throw notFound(`content digest ${digest}`);
    await this.#assertWhole(ctx, info);
    return info;
  }

  async update(
    ctx: Context,
    given: { readonly digest: Digest; readonly labels: Labels },
    fields: readonly string[] = [],
  ): Promise<ContentInfo> {
    const ns = requireNamespace(ctx);
    return this.#state.update((tx) => {
      const blob = findBlob(tx, ns, given.digest);
      if (!blob) throw notFound(`content digest ${given.digest}`);
      const labels = withoutEmpty(
        maskedLabels(blob.info.labels, given.labels, {
          fields,
          what: `content info "${blob.info.digest}"`,
        }),
      );
      assertLabels(labels);
      const updatedAt = nowNanos();
      const { root } = tx.setLinks(ns, blob.node, labels);
      tx.sql.run(
        "UPDATE blobs SET labels = ?, root = ?, updated_at = ? WHERE node = ?",
        encodeMap(labels),
        Number(root),
        updatedAt,
        blob.node,
      );
      return { ...blob.info, labels, updatedAt };
    });
  }

  async *list(ctx: Context, filters?: readonly string[]): AsyncGenerator<ContentInfo> {
    const ns = requireNamespace(ctx);
    const matches = parseFilters(filters);
    for (let after = ""; ; ) {
      ctx.throwIfEnded();
      const batch = await this.#state.view((tx) =>
        tx.sql
          .all(
            `SELECT n.key, b.* FROM nodes n JOIN blobs b ON b.node = n.id
             WHERE n.ns = ? AND n.kind = 'content' AND n.key > ? ORDER BY n.key LIMIT ?`,
            ns,
            after,
            batchSize,
          )
          .map(decodeBlob),
      );
      for (const info of batch) if (matches(contentField(info))) yield info;
      const last = batch.at(-1);
      if (!last || batch.length < batchSize) return;
      after = last.digest;
    }
  }

  async delete(ctx: Context, digest: Digest): Promise<void> {
    const ns = requireNamespace(ctx);
    await this.#state.update((tx) => {
      const blob = findBlob(tx, ns, digest);
      if (!blob) throw notFound(`content digest ${digest}`);
      tx.sql.run("DELETE FROM blobs WHERE node = ?", blob.node);
      tx.clearLinks(blob.node);
      tx.removeFromLease(ctx, blob.node);
      tx.dirty = true;
      tx.dirtyBackends.add("content");
    });
    await this.#state.publish(ctx, topics.contentDelete, contentDelete({ digest }));
  }

  async open(ctx: Context, digest: Digest): Promise<ContentReader> {
    const ns = requireNamespace(ctx);
    const blob = await this.#state.view((tx) => findBlob(tx, ns, digest));
    if (!blob) throw notFound(`content digest ${digest}`);
    await using stack = new AsyncDisposableStack();
    const reader = stack.use(await this.#backend.open(ctx, digest));
    assertSize(blob.info, reader.sizeBytes);
    stack.move();
    return reader;
  }

  async status(ctx: Context, ref: string): Promise<IngestStatus> {
    const ns = requireNamespace(ctx);
    const ingest = await this.#state.view((tx) => findIngest(tx, ns, ref));
    if (!ingest) throw notFound(`reference ${ref}`);
    return { ...(await this.#backend.status(ctx, ingest.backendRef)), ref };
  }

  async listStatuses(ctx: Context, filters?: readonly string[]): Promise<readonly IngestStatus[]> {
    const ns = requireNamespace(ctx);
    const matches = parseFilters(filters);
    const rows = await this.#state.view((tx) =>
      tx.sql
        .all(
          `SELECT n.key, i.* FROM nodes n JOIN ingests i ON i.node = n.id
           WHERE n.ns = ? AND n.kind = 'ingest' ORDER BY n.key`,
          ns,
        )
        .map((row) => ({ ref: text(row, "key"), backendRef: text(row, "backend_ref") })),
    );
    const statuses: IngestStatus[] = [];
    for (let i = 0; i < rows.length; i += statusesAtOnce) {
      const batch = rows.slice(i, i + statusesAtOnce).map(async ({ ref, backendRef }) => {
        const status = await this.#backend.status(ctx, backendRef).catch(undefinedIfNotFound);
        return status && { ...status, ref };
      });
      for (const status of await Promise.all(batch)) {
        if (status && matches(statusField(status))) statuses.push(status);
      }
    }
    return statuses;
  }

  async abort(ctx: Context, ref: string): Promise<void> {
    const ns = requireNamespace(ctx);
    const backendRef = await this.#state.update((tx) => {
      const ingest = findIngest(tx, ns, ref);
      if (!ingest) throw notFound(`reference ${ref}`);
      removeIngest(tx, ctx, ingest.node);
      return ingest.backendRef;
    });
    // Not there for an ingest of a blob that another namespace shares. A crash before leaves it to the sweep.
    await this.#backend.abort(ctx, backendRef).catch(undefinedIfNotFound);
  }

  async writer(ctx: Context, options: WriterOptions): Promise<ContentWriter> {
    const { ref, expected } = options;
    if (ref === "") throw invalidArgument("ref must not be empty");
    const ns = requireNamespace(ctx);
    // Two that open one new ref at once agree on its backend ref.
    using _open = await this.#state.locks.acquire(`open ${ns} ${ref}`, ctx.signal);
    if (expected === undefined) return this.#openWriter(ctx, ns, options, undefined);
    using _blob = await this.#state.locks.acquire(`content ${expected}`, ctx.signal);
    await this.#assertAbsent(ctx, ns, expected);
    return this.#openWriter(ctx, ns, options, await this.#sharedBlob(ctx, expected, options));
  }

  /**
   * Removes blobs and ingests that no record names: what collections dropped and what a crash left between a blob's
   * making and its record. Blobs being committed meanwhile are safe, see `MetadataState.locks`.
   */
  async sweep(ctx: Context): Promise<void> {
    const named = await this.#state.view(backendNames);
    for await (const { digest } of this.#backend.list(ctx)) {
      if (!named.blobs.has(digest)) await this.#sweepBlob(ctx, digest);
    }
    for (const { ref } of await this.#backend.listStatuses(ctx)) {
      if (!named.ingests.has(ref)) await this.#sweepIngest(ctx, ref);
    }
  }

  async #openWriter(
    ctx: Context,
    ns: string,
    options: WriterOptions,
    shared: ContentInfo | undefined,
  ): Promise<ContentWriter> {
    const { ref, expected, totalBytes, mediaType = "" } = options;
    const known = await this.#state.view((tx) => findIngest(tx, ns, ref)?.backendRef);
    const backendRef = known ?? backendKey(ns, await this.#state.nextSequence(), ref);
    using _ingest = await this.#state.locks.acquire(`ingest ${backendRef}`, ctx.signal);
    await using stack = new AsyncDisposableStack();
    // The digest is left out: whether the backend has the blob says nothing about this namespace.
    const inner = shared
      ? undefined
      : stack.use(await this.#backend.writer(ctx, { ref: backendRef, totalBytes }));
    await this.#state.update((tx) => {
      tx.ensureNamespace(ns);
      recordIngest(tx, ctx, { ns, ref, backendRef, expected: shared?.digest });
    });
    stack.move();
    return new NamespacedWriter({
      ctx,
      state: this.#state,
      backend: this.#backend,
      ns,
      ref,
      backendRef,
      inner,
      mediaType,
      expected,
      sharedBytes: shared?.sizeBytes ?? 0,
    });
  }

  /** Throws `already-exists` when the namespace has the blob, leasing it to the caller. */
  async #assertAbsent(ctx: Context, ns: string, digest: Digest): Promise<void> {
    const blob = await this.#state.view((tx) => findBlob(tx, ns, digest));
    if (!blob) return;
    try {
      await this.#assertWhole(ctx, blob.info);
    } catch (error) {
      // The disk lost it: the caller may bring it again.
      if (isNotFound(error)) return;
      throw error;
    }
    // Looked up again: a collection may have taken it since, and a lease on nothing would promise what is gone.
    const leased = await this.#state.update((tx) => {
      const still = findBlob(tx, ns, digest);
      if (still) tx.addToLease(ctx, still.node);
      return still !== undefined;
    });
    if (!leased) return;
    throw alreadyExists(`content ${digest}`);
  }

  /** The blob as another namespace brought it, if it may be had for the mere knowledge of its digest. */
  async #sharedBlob(
    ctx: Context,
    digest: Digest,
    { totalBytes = 0 }: WriterOptions,
  ): Promise<ContentInfo | undefined> {
    if (!this.#shared && !(await this.#state.view((tx) => isShareable(tx, digest)))) return;
    const info = await this.#backend.info(ctx, digest).catch(undefinedIfNotFound);
    const recorded = await this.#state.view((tx) => recordedSize(tx, digest));
    const isWhole = recorded === undefined || recorded === info?.sizeBytes;
    return isWhole && (totalBytes === 0 || totalBytes === info?.sizeBytes) ? info : undefined;
  }

  async #assertWhole(ctx: Context, recorded: ContentInfo): Promise<void> {
    const { digest } = recorded;
    try {
      assertSize(recorded, (await this.#backend.info(ctx, digest)).sizeBytes);
    } catch (error) {
      if (isNotFound(error)) {
        ctx.logger.warn("content is recorded but not whole on disk", { digest, error });
      }
      throw error;
    }
  }

  async #sweepBlob(ctx: Context, digest: Digest): Promise<void> {
    const key = `content ${digest}`;
    // In a writer's hands: it will have a record, or the next sweep takes it.
    if (this.#state.locks.isHeld(key)) return void this.#state.dirtyBackends.add("content");
    using _lock = await this.#state.locks.acquire(key);
    if (await this.#state.view((tx) => isBlobNamed(tx, digest))) return;
    await this.#backend.delete(ctx, digest).catch(undefinedIfNotFound);
    ctx.logger.debug("removed content", { digest });
  }

  async #sweepIngest(ctx: Context, ref: string): Promise<void> {
    const key = `ingest ${ref}`;
    if (this.#state.locks.isHeld(key)) return void this.#state.dirtyBackends.add("content");
    using _lock = await this.#state.locks.acquire(key);
    const named = await this.#state.view((tx) =>
      tx.sql.get("SELECT 1 FROM ingests WHERE backend_ref = ?", ref),
    );
    if (named) return;
    await this.#backend.abort(ctx, ref).catch(undefinedIfNotFound);
    ctx.logger.debug("aborted ingest", { ref });
  }
}

/** A power cut or a full disk may leave a blob's name without all of its bytes: that is no blob. */
function assertSize({ digest, sizeBytes }: ContentInfo, heldBytes: number): void {
  if (heldBytes === sizeBytes) return;
  throw notFound(`content ${digest}: ${heldBytes} of ${sizeBytes} bytes held`);
}

function undefinedIfNotFound(error: unknown): undefined {
  if (isNotFound(error)) return;
  throw error instanceof CodedError ? error : wrap("content backend", error);
}
