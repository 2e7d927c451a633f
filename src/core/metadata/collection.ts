import type { Resource, ResourceCollection } from "#core/gc/gc.ts";
import { mark } from "#core/metadata/mark.ts";
import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import { bigint, text } from "#pkg/sqlite/row.ts";

/** A removed object that somebody is told of. */
export interface Removed {
  readonly ns: string;
  readonly kind: string;
  readonly key: string;
}

/** Marks what is kept and deletes the records of all else, in the transaction it is given. */
export function collect(
  tx: Transaction,
  nowMs: number,
  resources: ReadonlyMap<string, ResourceCollection>,
): readonly Removed[] {
  mark(tx.sql, nowMs, []);
  sweepResources(tx, nowMs, resources);
  tx.sql.run("DELETE FROM leases WHERE expires_ms < ?", nowMs);
  const removed = ["images", "snapshots", "blobs", "ingests"].flatMap((table) =>
    unreached(tx, table),
  );
  if (removed.length === 0) return [];
  for (const { table, node, kind } of removed) {
    tx.clearLinks(node);
    if (table === "blobs" || table === "ingests") tx.dirtyBackends.add("content");
    if (table === "snapshots") tx.dirtyBackends.add(kind);
  }
  for (const table of ["images", "snapshots", "blobs", "ingests"]) {
    // One statement, so that a chain of snapshots goes at once: parents are only checked at its end.
    tx.sql.run(`DELETE FROM ${table} WHERE node NOT IN (SELECT id FROM temp.reached)`);
  }
  pruneNodes(tx);
  return removed;
}

interface Unreached extends Removed {
  readonly table: string;
  readonly node: NodeId;
}

function unreached(tx: Transaction, table: string): Unreached[] {
  return tx.sql
    .all(
      `SELECT n.id, n.ns, n.kind, n.key FROM ${table} t JOIN nodes n ON n.id = t.node
       WHERE t.node NOT IN (SELECT id FROM temp.reached) ORDER BY n.ns, n.kind, n.key`,
    )
    .map((row) => ({
      table,
      node: bigint(row, "id"),
      ns: text(row, "ns"),
      kind: text(row, "kind"),
      key: text(row, "key"),
    }));
}

/** Nodes that neither an object nor a label nor a lease needs any more. */
function pruneNodes(tx: Transaction): void {
  tx.sql.run(`
    DELETE FROM nodes WHERE id NOT IN (
      SELECT node FROM blobs UNION ALL SELECT node FROM ingests UNION ALL SELECT node FROM images
      UNION ALL SELECT node FROM containers UNION ALL SELECT node FROM snapshots
      UNION ALL SELECT src FROM refs UNION ALL SELECT dst FROM refs
      UNION ALL SELECT src FROM conditional_refs UNION ALL SELECT dst FROM conditional_refs
      UNION ALL SELECT node FROM lease_resources
      UNION ALL SELECT key_node FROM snapshot_commits UNION ALL SELECT name_node FROM snapshot_commits)`);
}

function sweepResources(
  tx: Transaction,
  nowMs: number,
  resources: ReadonlyMap<string, ResourceCollection>,
): void {
  if (resources.size === 0) return;
  const leases = tx.sql
    .all(
      "SELECT ns, name FROM leases WHERE expires_ms IS NULL OR expires_ms >= ? ORDER BY id",
      nowMs,
    )
    .map((row) => ({ ns: text(row, "ns"), name: text(row, "name") }));
  for (const [kind, collection] of resources) {
    const kept = new Set<string>();
    const keep = (all: Iterable<Resource>): void => {
      for (const { namespace, key } of all) kept.add(`${namespace}/${key}`);
    };
    keep(collection.active());
    for (const { ns, name } of leases) keep(collection.leased(ns, name));
    for (const resource of collection.all()) {
      const { namespace, key } = resource;
      if (kept.has(`${namespace}/${key}`) || isKept(tx, kind, resource, collection)) continue;
      collection.remove(resource);
    }
  }
}

/** By a label of an object that was reached, or by a parent that was. */
function isKept(
  tx: Transaction,
  kind: string,
  resource: Resource,
  collection: ResourceCollection,
): boolean {
  const { namespace, key } = resource;
  const reached = (nodeKind: string, nodeKey: string): boolean =>
    tx.sql.get(
      `SELECT 1 FROM nodes n JOIN temp.reached r ON r.id = n.id
       WHERE n.ns = ? AND n.kind = ? AND n.key = ?`,
      namespace,
      nodeKind,
      nodeKey,
    ) !== undefined;
  if (reached(kind, key)) return true;
  return [...collection.parents(resource)].some((parent) => reached(parent.kind, parent.key));
}
