import { deleteSnapshot, insertSnapshot } from "#core/metadata/snapshot-rows.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import { isNotFound, notFound } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import { bigint, encodeMap, stringMap, text } from "#pkg/sqlite/row.ts";
import type { UnixNanos } from "#pkg/time.ts";
import { settledOrAborted } from "#pkg/until.ts";

/**
 * A commit that the backend is asked for.
 *
 * A backend's commit and its record cannot happen at one instant. So the intent is recorded first: after a crash the
 * backend is asked whether it happened, and the record is made or the intent forgotten. Without it the key's record
 * would point to nothing and the name's snapshot would be swept, with the work of unpacking it.
 */
export interface CommitIntent {
  readonly keyNode: NodeId;
  readonly nameNode: NodeId;
  readonly parentNode: NodeId | undefined;
  readonly backendName: string;
  readonly labels: Labels;
  readonly createdAt: UnixNanos;
}

export function insertIntent(tx: Transaction, intent: CommitIntent): void {
  tx.sql.run(
    `INSERT INTO snapshot_commits (key_node, name_node, parent, backend_name, labels, created_at)
     VALUES (?, ?, ?, ?, ?, ?)`,
    intent.keyNode,
    intent.nameNode,
    intent.parentNode ?? null,
    intent.backendName,
    encodeMap(intent.labels),
    intent.createdAt,
  );
}

export function deleteIntent(tx: Transaction, keyNode: NodeId): void {
  tx.sql.run("DELETE FROM snapshot_commits WHERE key_node = ?", keyNode);
}

export function isNamePending(tx: Transaction, nameNode: NodeId): boolean {
  const row = tx.sql.get("SELECT 1 FROM snapshot_commits WHERE name_node = ?", nameNode);
  return row !== undefined;
}

/** The backend has committed: the name takes the key's place. */
export function recordCommit(tx: Transaction, ns: string, intent: CommitIntent): void {
  if (!isThere(tx, intent.parentNode)) throw notFound("parent snapshot was removed meanwhile");
  deleteIntent(tx, intent.keyNode);
  deleteSnapshot(tx, intent.keyNode);
  insertSnapshot(tx, ns, {
    node: intent.nameNode,
    parentNode: intent.parentNode,
    backendKey: intent.backendName,
    labels: intent.labels,
    createdAt: intent.createdAt,
    updatedAt: intent.createdAt,
  });
}

interface PendingCommit {
  readonly ns: string;
  readonly snapshotter: string;
  readonly name: string;
  readonly intent: CommitIntent;
}

/**
 * Finishes or forgets what a crash interrupted, before anyone uses the snapshotters.
 *
 * A backend that does not answer, or with an error (another process, not yet up or ill), is no reason not to start. It
 * keeps its intents: who next commits that key or name settles them (`settleCommit`). Nor does one wait for another.
 */
export async function settleCommits(
  ctx: Context,
  state: MetadataState,
  snapshotters: ReadonlyMap<string, Snapshotter>,
  timeoutMs: number,
): Promise<void> {
  const all = await state.view((tx) => pendingCommits(tx));
  const bySnapshotter = Map.groupBy(all, ({ snapshotter }) => snapshotter);
  const settled = [...bySnapshotter].map(async ([snapshotter, pending]) => {
    const backend = snapshotters.get(snapshotter);
    // A snapshotter that did not start keeps its intents until it does.
    if (backend) await settleAll(ctx.withTimeout(timeoutMs), state, backend, pending);
  });
  await Promise.all(settled);
  ctx.throwIfEnded();
}

async function settleAll(
  ctx: Context,
  state: MetadataState,
  backend: Snapshotter,
  all: readonly PendingCommit[],
): Promise<void> {
  for (const pending of all) {
    const { snapshotter, name } = pending;
    let happened: boolean;
    try {
      // Also where the backend does not heed its context.
      happened = await settledOrAborted(isCommitted(ctx, backend, pending), ctx);
    } catch (error) {
      ctx.logger.warn("an interrupted commit is not settled yet", { snapshotter, name, error });
      continue;
    }
    await settle(ctx, state, pending, happened);
  }
}

/**
 * Settles an intent for the key or the name that is left from before the start. Its caller holds
 * the locks of both: an intent that is there is then nobody's who still works on it.
 */
export async function settleCommit(
  ctx: Context,
  state: MetadataState,
  backend: Snapshotter,
  of: { readonly ns: string; readonly kind: string; readonly name: string; readonly key: string },
): Promise<void> {
  const left = await state.view((tx) =>
    pendingCommits(
      tx,
      `WHERE n.ns = ?1 AND n.kind = ?2 AND (n.key = ?3
       OR c.key_node = (SELECT id FROM nodes WHERE ns = ?1 AND kind = ?2 AND key = ?4))`,
      [of.ns, of.kind, of.name, of.key],
    ),
  );
  for (const pending of left) {
    await settle(ctx, state, pending, await isCommitted(ctx, backend, pending));
  }
}

function pendingCommits(
  tx: Transaction,
  where = "",
  parameters: readonly string[] = [],
): readonly PendingCommit[] {
  // From the few there are: the planner would look through all nodes for them.
  const select = `SELECT c.*, n.ns, n.kind, n.key
    FROM snapshot_commits c CROSS JOIN nodes n ON n.id = c.name_node`;
  return tx.sql.all(`${select} ${where}`, ...parameters).map((row) => ({
    ns: text(row, "ns"),
    snapshotter: text(row, "kind").slice("snapshot/".length),
    name: text(row, "key"),
    intent: {
      keyNode: bigint(row, "key_node"),
      nameNode: bigint(row, "name_node"),
      parentNode: row["parent"] === null ? undefined : bigint(row, "parent"),
      backendName: text(row, "backend_name"),
      labels: stringMap(row, "labels"),
      createdAt: bigint(row, "created_at"),
    },
  }));
}

async function settle(
  ctx: Context,
  state: MetadataState,
  { ns, snapshotter, name, intent }: PendingCommit,
  happened: boolean,
): Promise<void> {
  await state.update((tx) => {
    const wanted = isThere(tx, intent.keyNode) && isThere(tx, intent.parentNode);
    if (happened && wanted) recordCommit(tx, ns, intent);
    else deleteIntent(tx, intent.keyNode);
  });
  ctx.logger.info("settled an interrupted commit", { snapshotter, name, happened });
}

function isThere(tx: Transaction, node: NodeId | undefined): boolean {
  if (node === undefined) return true;
  return tx.sql.get("SELECT 1 FROM snapshots WHERE node = ?", node) !== undefined;
}

async function isCommitted(
  ctx: Context,
  backend: Snapshotter,
  { ns, intent }: PendingCommit,
): Promise<boolean> {
  try {
    const info = await backend.stat(ctx.withNamespace(ns), intent.backendName);
    return info.kind === "committed";
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}
