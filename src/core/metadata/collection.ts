import type { Resource, ResourceCollection } from "#core/gc/gc.ts";
import { type Candidate, type Marked } from "#core/metadata/mark.ts";
import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import { bigint, text } from "#pkg/sqlite/row.ts";

/** A removed object that somebody is told of. */
export interface Removed {
  readonly ns: string;
  readonly kind: string;
  readonly key: string;
}

export interface CollectionState {
  readonly nowMs: number;
  readonly marked: Marked;
  /** What was touched since the state that was marked. */
  readonly touched: ReadonlySet<NodeId>;
  readonly released: ReadonlySet<NodeId>;
  readonly resources: ReadonlyMap<string, ResourceCollection>;
}

/**
 * Deletes the records that marking found unreached and that nothing reaches since, in the transaction it is given.
 *
 * What was written while it was marked is not in the marked state. All that can have become reachable was touched, or
 * is led to from what was: these are followed here, and kept. Where marking has followed all references already this
 * stops; what a flat lease holds is followed, since a root that leads to it now keeps what it refers to. What became
 * garbage meanwhile is left to the next collection.
 */
export function collect(tx: Transaction, state: CollectionState): readonly Removed[] {
  const { marked, nowMs } = state;
  const rescued = follow(tx, state.touched, marked.reached);
  const isMarked = (node: number): boolean => marked.reached.has(node) || marked.flat.has(node);
  const isKept = (node: NodeId): boolean => isMarked(Number(node)) || rescued.has(node);
  for (const [kind, collection] of state.resources) {
    sweepResources(tx, { kind, nowMs, collection, isKept });
  }
  // A chain of snapshots goes in any order: parents are checked when all are gone.
  tx.sql.exec("PRAGMA defer_foreign_keys = ON");
  tx.deleteLeases("expires_ms < ?", nowMs);
  const removed = marked.candidates
    .filter(({ node }) => !isKept(node))
    .map((candidate) => remove(tx, candidate))
    .filter((object) => object !== undefined);
  for (const node of [...state.released, ...tx.released]) pruneNode(tx, node);
  return removed;
}

/** Everything that the nodes lead to, themselves included, but for `reached` and what only that leads to. */
function follow(
  tx: Transaction,
  from: ReadonlySet<NodeId>,
  reached: ReadonlySet<number>,
): ReadonlySet<NodeId> {
  const found = new Set<NodeId>();
  const stack = [...from];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (found.has(node) || reached.has(Number(node))) continue;
    found.add(node);
    // Whether a condition holds is not asked: keeping too much until the next time does no harm.
    const references = tx.sql.all(
      "SELECT dst FROM refs WHERE src = ?1 UNION ALL SELECT dst FROM conditional_refs WHERE src = ?1",
      node,
    );
    for (const row of references) stack.push(bigint(row, "dst"));
  }
  return found;
}

function remove(tx: Transaction, { table, node }: Candidate): Removed | undefined {
  if (tx.sql.run(`DELETE FROM ${table} WHERE node = ?`, node) === 0) return;
  tx.clearLinks(node);
  const row = tx.sql.get("SELECT ns, kind, key FROM nodes WHERE id = ?", node);
  if (!row) return;
  const object = { ns: text(row, "ns"), kind: text(row, "kind"), key: text(row, "key") };
  if (table === "blobs" || table === "ingests") tx.dirtyBackends.add("content");
  if (table === "snapshots") tx.dirtyBackends.add(object.kind);
  return object;
}

const nodeUses = [
  "blobs WHERE node",
  "ingests WHERE node",
  "images WHERE node",
  "containers WHERE node",
  "sandboxes WHERE node",
  "snapshots WHERE node",
  "refs WHERE src",
  "refs WHERE dst",
  "conditional_refs WHERE src",
  "conditional_refs WHERE dst",
  "lease_resources WHERE node",
  "snapshot_commits WHERE key_node",
  "snapshot_commits WHERE name_node",
];

const unused = nodeUses.map((use) => `NOT EXISTS (SELECT 1 FROM ${use} = nodes.id)`).join(" AND ");

/** Deletes a node that neither an object nor a label nor a lease needs. */
function pruneNode(tx: Transaction, node: NodeId): void {
  tx.sql.run(`DELETE FROM nodes WHERE id = ? AND ${unused}`, node);
}

/** The same for all: at the start, since what was released is only known while the daemon runs. */
export function pruneAllNodes(tx: Transaction): void {
  tx.sql.run(`DELETE FROM nodes WHERE ${unused}`);
}

function sweepResources(
  tx: Transaction,
  sweep: {
    readonly kind: string;
    readonly nowMs: number;
    readonly collection: ResourceCollection;
    readonly isKept: (node: NodeId) => boolean;
  },
): void {
  const { kind, nowMs, collection, isKept } = sweep;
  const kept = new Set<string>();
  const keep = (all: Iterable<Resource>): void => {
    for (const { namespace, key } of all) kept.add(`${namespace}/${key}`);
  };
  keep(collection.active());
  const leases = "SELECT ns, name FROM leases WHERE expires_ms IS NULL OR expires_ms >= ?";
  for (const row of tx.sql.all(leases, nowMs)) {
    keep(collection.leased(text(row, "ns"), text(row, "name")));
  }
  for (const resource of collection.all()) {
    const { namespace, key } = resource;
    if (kept.has(`${namespace}/${key}`)) continue;
    // By a label of an object that is kept, or by a parent that is.
    const keepers = [{ kind, key }, ...collection.parents(resource)];
    const nodes = keepers.map((keeper) => tx.findNode(namespace, keeper.kind, keeper.key));
    if (nodes.some((node) => node !== undefined && isKept(node))) continue;
    collection.remove(resource);
  }
}
