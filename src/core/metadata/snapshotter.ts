import type { Mount } from "#core/mount/mount.ts";
import { snapshotCommit, snapshotPrepare, snapshotRemove } from "#core/events/convert.ts";
import { topics } from "#core/events/topics.ts";
import { SnapshotCreation } from "#core/metadata/snapshot-creation.ts";
import {
  type CommitIntent,
  deleteIntent,
  insertIntent,
  isNamePending,
  recordCommit,
  settleCommit,
} from "#core/metadata/snapshot-commit.ts";
import {
  decodeSnapshot,
  deleteSnapshot,
  findSnapshot,
  inheritedLabels,
  requireParent,
  type SnapshotRecord,
  selectSnapshot,
} from "#core/metadata/snapshot-rows.ts";
import { snapshotField } from "#core/snapshots/filter-fields.ts";
import { backendKey, type MetadataState } from "#core/metadata/state.ts";
import type { Transaction } from "#core/metadata/transaction.ts";
import type {
  SnapshotInfo,
  SnapshotOptions,
  Snapshotter,
  SnapshotUsage,
} from "#core/snapshots/snapshots.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import {
  alreadyExists,
  failedPrecondition,
  hasCode,
  invalidArgument,
  isNotFound,
  notFound,
} from "#pkg/errors.ts";
import { maskedLabels } from "#pkg/field-mask.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { assertLabels, withoutEmpty } from "#pkg/label.ts";
import { encodeMap, text } from "#pkg/sqlite/row.ts";
import { nowNanos } from "#pkg/time.ts";

const batchSize = 100;
const statsAtOnce = 16;

/** Snapshots by namespace over a backend whose keys are `<namespace>/<number>/<key>`. */
export class NamespacedSnapshotter implements Snapshotter {
  readonly #state: MetadataState;
  readonly #backend: Snapshotter;
  readonly #name: string;
  /** Kind of its nodes. */
  readonly #kind: string;

  constructor(state: MetadataState, name: string, backend: Snapshotter) {
    this.#state = state;
    this.#backend = backend;
    this.#name = name;
    this.#kind = `snapshot/${name}`;
  }

  async stat(ctx: Context, name: string): Promise<SnapshotInfo> {
    const record = await this.#record(ctx, name);
    return merged(await this.#backend.stat(ctx, record.backendKey), record);
  }

  async update(
    ctx: Context,
    given: Pick<SnapshotInfo, "name" | "labels">,
    fields: readonly string[] = [],
  ): Promise<SnapshotInfo> {
    const ns = requireNamespace(ctx);
    if (given.name === "") throw invalidArgument("snapshot name must not be empty");
    using _lock = await this.#lock(ctx, ns, given.name);
    const record = await this.#record(ctx, given.name);
    const labels = withoutEmpty(
      maskedLabels(record.labels, given.labels, { fields, what: `snapshot "${record.name}"` }),
    );
    assertLabels(labels);
    // The backend first: its part is overlaid by the record's, so a crash in between changes nothing that is seen.
    const inner = { name: record.backendKey, labels: inheritedLabels(labels) };
    const info = await this.#backend.update(ctx, inner, fields);
    const updatedAt = nowNanos();
    await this.#state.update((tx) => {
      const found = requireSnapshot(tx, ns, this.#kind, given.name);
      const parents = found.parentNode === undefined ? [] : [found.parentNode];
      const { root } = tx.setLinks(ns, found.node, labels, parents);
      tx.sql.run(
        "UPDATE snapshots SET labels = ?, root = ?, updated_at = ? WHERE node = ?",
        encodeMap(labels),
        Number(root),
        updatedAt,
        found.node,
      );
    });
    return merged(info, { ...record, labels, updatedAt });
  }

  async usage(ctx: Context, name: string): Promise<SnapshotUsage> {
    return this.#backend.usage(ctx, (await this.#record(ctx, name)).backendKey);
  }

  async mounts(ctx: Context, key: string): Promise<readonly Mount[]> {
    return this.#backend.mounts(ctx, (await this.#record(ctx, key)).backendKey);
  }

  async prepare(
    ctx: Context,
    key: string,
    parent: string,
    options: SnapshotOptions = {},
  ): Promise<readonly Mount[]> {
    const mounts = await this.#create(ctx, { key, parent, options, writable: true });
    const event = snapshotPrepare({ key, parent, snapshotter: this.#name });
    await this.#state.publish(ctx, topics.snapshotPrepare, event);
    return mounts;
  }

  async view(
    ctx: Context,
    key: string,
    parent: string,
    options: SnapshotOptions = {},
  ): Promise<readonly Mount[]> {
    return this.#create(ctx, { key, parent, options, writable: false });
  }

  async flush(ctx: Context, keys: readonly string[]): Promise<void> {
    const records = await Promise.all(keys.map((key) => this.#record(ctx, key)));
    const backendKeys = records.map((record) => record.backendKey);
    await this.#backend.flush?.(ctx, backendKeys);
  }

  async commit(
    ctx: Context,
    name: string,
    key: string,
    options: SnapshotOptions = {},
  ): Promise<void> {
    const ns = requireNamespace(ctx);
    assertLabels(options.labels ?? {});
    using _key = await this.#lock(ctx, ns, key);
    using _name = await this.#state.locks.acquire(`name ${this.#kind} ${ns} ${name}`, ctx.signal);
    await settleCommit(ctx, this.#state, this.#backend, { ns, kind: this.#kind, name, key });
    const backendName = backendKey(ns, await this.#state.nextSequence(), name);
    using _new = await this.#state.locks.acquire(`snapshot ${this.#name} ${backendName}`);
    const begun = await this.#beginCommit(ctx, ns, { name, key, backendName, options });
    this.#state.failpoints.hit("metadata.snapshot-commit-intended");
    try {
      await this.#backend.commit(ctx, backendName, begun.backendKey, {
        labels: inheritedLabels(begun.intent.labels),
        parent: begun.rebaseTo,
      });
    } catch (error) {
      await this.#state.update((tx) => deleteIntent(tx, begun.intent.keyNode));
      throw error;
    }
    this.#state.failpoints.hit("metadata.snapshot-commit-before-record");
    await this.#state.update((tx) => {
      tx.removeFromLease(ctx, begun.intent.keyNode);
      recordCommit(tx, ns, begun.intent);
    });
    const event = snapshotCommit({ key, name, snapshotter: this.#name });
    await this.#state.publish(ctx, topics.snapshotCommit, event);
  }

  async remove(ctx: Context, key: string): Promise<void> {
    const ns = requireNamespace(ctx);
    using _lock = await this.#lock(ctx, ns, key);
    await this.#state.update((tx) => {
      const { node } = requireSnapshot(tx, ns, this.#kind, key);
      if (tx.sql.get("SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1", node)) {
        throw failedPrecondition("cannot remove snapshot with child");
      }
      deleteSnapshot(tx, node);
      tx.removeFromLease(ctx, node);
      tx.dirty = true;
      tx.dirtyBackends.add(this.#kind);
    });
    const event = snapshotRemove({ key, snapshotter: this.#name });
    await this.#state.publish(ctx, topics.snapshotRemove, event);
  }

  async *list(ctx: Context, filters?: readonly string[]): AsyncGenerator<SnapshotInfo> {
    const ns = requireNamespace(ctx);
    const matches = parseFilters(filters);
    for (let after = ""; ; ) {
      ctx.throwIfEnded();
      const batch = await this.#state.view((tx) =>
        tx.sql
          .all(
            `${selectSnapshot} AND n.key > ? ORDER BY n.key LIMIT ?`,
            ns,
            this.#kind,
            after,
            batchSize,
          )
          .map(decodeSnapshot),
      );
      for (let i = 0; i < batch.length; i += statsAtOnce) {
        const infos = batch
          .slice(i, i + statsAtOnce)
          .map((record) => this.#infoIfThere(ctx, record));
        for (const info of await Promise.all(infos)) {
          if (info && matches(snapshotField(info))) yield info;
        }
      }
      const last = batch.at(-1);
      if (!last || batch.length < batchSize) return;
      after = last.name;
    }
  }

  async cleanup(ctx: Context): Promise<void> {
    await this.#backend.cleanup(ctx);
  }

  /** The backend belongs to whoever opened it. */
  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}

  /** Removes the backend's snapshots that no record names, children before parents. */
  async sweep(ctx: Context): Promise<void> {
    const named = await this.#state.view((tx) => new Set(backendKeys(tx, this.#kind)));
    const children = new Map<string, string[]>();
    const garbage = new Set<string>();
    for await (const { name, parent } of this.#backend.list(ctx)) {
      if (parent !== "") children.set(parent, [...(children.get(parent) ?? []), name]);
      if (!named.has(name)) garbage.add(name);
    }
    for (const name of leavesFirst(garbage, children)) await this.#sweepOne(ctx, name);
    try {
      await this.#backend.cleanup(ctx);
    } catch (error) {
      if (!hasCode(error, "not-implemented")) throw error;
    }
  }

  async #sweepOne(ctx: Context, key: string): Promise<void> {
    const lockKey = `snapshot ${this.#name} ${key}`;
    // Being made or committed: it will have a record, or the next sweep takes it.
    if (this.#state.locks.isHeld(lockKey)) {
      this.#state.dirtyBackends.add(this.#kind);
      return;
    }
    using _lock = await this.#state.locks.acquire(lockKey);
    if (await this.#state.view((tx) => isBackendKeyNamed(tx, this.#kind, key))) return;
    this.#state.failpoints.hit("metadata.sweep-before-snapshot");
    try {
      await this.#backend.remove(ctx, key);
      ctx.logger.debug("removed snapshot", { snapshotter: this.#name, key });
    } catch (error) {
      if (isNotFound(error)) return;
      if (!hasCode(error, "failed-precondition")) throw error;
      // One made since, or not gone yet, stands on it: a later sweep takes it.
      this.#state.dirtyBackends.add(this.#kind);
      ctx.logger.warn("failed to remove snapshot", { snapshotter: this.#name, key, error });
    }
  }

  async #create(
    ctx: Context,
    request: { key: string; parent: string; options: SnapshotOptions; writable: boolean },
  ): Promise<readonly Mount[]> {
    const ns = requireNamespace(ctx);
    assertLabels(request.options.labels ?? {});
    using _lock = await this.#lock(ctx, ns, request.key);
    const creation = new SnapshotCreation(this.#state, this.#backend, {
      ns,
      snapshotter: this.#name,
      key: request.key,
      parent: request.parent,
      labels: withoutEmpty(request.options.labels ?? {}),
      writable: request.writable,
    });
    return creation.run(ctx);
  }

  async #beginCommit(
    ctx: Context,
    ns: string,
    request: { name: string; key: string; backendName: string; options: SnapshotOptions },
  ): Promise<{ intent: CommitIntent; backendKey: string; rebaseTo: string | undefined }> {
    const { name, key, backendName, options } = request;
    const begun = await this.#state.update((tx) => {
      const nameNode = tx.node(ns, this.#kind, name);
      tx.addToLease(ctx, nameNode);
      // Answered outside the transaction, so that the lease on the existing one is kept.
      if (findSnapshot(tx, ns, this.#kind, name) || isNamePending(tx, nameNode)) return;
      const record = requireSnapshot(tx, ns, this.#kind, key);
      const rebase = record.parent === "" ? options.parent : undefined;
      const parentName = rebase ?? record.parent;
      const parent = parentName === "" ? undefined : requireParent(tx, ns, this.#kind, parentName);
      const intent: CommitIntent = {
        keyNode: record.node,
        nameNode,
        parentNode: parent?.node,
        backendName,
        labels: withoutEmpty(options.labels ?? {}),
        createdAt: nowNanos(),
      };
      insertIntent(tx, intent);
      const rebaseTo = rebase === undefined ? undefined : parent?.backendKey;
      return { intent, backendKey: record.backendKey, rebaseTo };
    });
    if (!begun) throw alreadyExists(`snapshot "${name}"`);
    return begun;
  }

  async #record(ctx: Context, name: string): Promise<SnapshotRecord> {
    const ns = requireNamespace(ctx);
    return this.#state.view((tx) => requireSnapshot(tx, ns, this.#kind, name));
  }

  async #infoIfThere(ctx: Context, record: SnapshotRecord): Promise<SnapshotInfo | undefined> {
    try {
      return merged(await this.#backend.stat(ctx, record.backendKey), record);
    } catch (error) {
      if (isNotFound(error)) return;
      throw error;
    }
  }

  #lock(ctx: Context, ns: string, key: string): Promise<Disposable> {
    return this.#state.locks.acquire(`key ${this.#kind} ${ns} ${key}`, ctx.signal);
  }
}

function requireSnapshot(tx: Transaction, ns: string, kind: string, name: string): SnapshotRecord {
  const record = findSnapshot(tx, ns, kind, name);
  if (!record) throw notFound(`snapshot ${name} does not exist`);
  return record;
}

function merged(info: SnapshotInfo, record: SnapshotRecord): SnapshotInfo {
  return {
    kind: info.kind,
    name: record.name,
    parent: record.parent,
    labels: { ...info.labels, ...record.labels },
    createdAt: record.createdAt,
    updatedAt: record.updatedAt,
  };
}

function backendKeys(tx: Transaction, kind: string): string[] {
  return tx.sql
    .all(
      `SELECT s.backend_key AS k FROM snapshots s CROSS JOIN nodes n ON n.id = s.node
       WHERE n.kind = ?1
       UNION ALL
       SELECT c.backend_name FROM snapshot_commits c CROSS JOIN nodes n ON n.id = c.name_node
       WHERE n.kind = ?1`,
      kind,
    )
    .map((row) => text(row, "k"));
}

function isBackendKeyNamed(tx: Transaction, kind: string, key: string): boolean {
  const row = tx.sql.get(
    `SELECT 1 FROM snapshots s CROSS JOIN nodes n ON n.id = s.node
     WHERE s.backend_key = ?1 AND n.kind = ?2
     UNION ALL SELECT 1 FROM snapshot_commits c CROSS JOIN nodes n ON n.id = c.name_node
     WHERE c.backend_name = ?1 AND n.kind = ?2`,
    key,
    kind,
  );
  return row !== undefined;
}

function leavesFirst(
  garbage: ReadonlySet<string>,
  children: ReadonlyMap<string, readonly string[]>,
): string[] {
  const ordered: string[] = [];
  const seen = new Set<string>();
  // By hand, since chains are as deep as images have layers and garbage may be one long chain.
  const stack = [...garbage].map((name) => ({ name, childrenDone: false }));
  for (let top = stack.pop(); top; top = stack.pop()) {
    if (top.childrenDone) {
      if (garbage.has(top.name)) ordered.push(top.name);
      continue;
    }
    if (seen.has(top.name)) continue;
    seen.add(top.name);
    stack.push({ name: top.name, childrenDone: true });
    for (const name of children.get(top.name) ?? []) stack.push({ name, childrenDone: false });
  }
  return ordered;
}
