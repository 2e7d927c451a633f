import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import { notFound } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import { bigint, encodeMap, optionalText, type Row, stringMap, text } from "#pkg/sqlite/row.ts";
import type { UnixNanos } from "#pkg/time.ts";

/** A snapshot's record: all but its kind, which the backend knows. */
export interface SnapshotRecord {
  readonly node: NodeId;
  readonly name: string;
  readonly parent: string;
  readonly parentNode: NodeId | undefined;
  readonly backendKey: string;
  readonly labels: Labels;
  readonly createdAt: UnixNanos;
  readonly updatedAt: UnixNanos;
}

export const selectSnapshot = `SELECT n.key, s.*, p.key AS parent_key
  FROM nodes n JOIN snapshots s ON s.node = n.id LEFT JOIN nodes p ON p.id = s.parent
  WHERE n.ns = ? AND n.kind = ?`;

export function findSnapshot(
  tx: Transaction,
  ns: string,
  kind: string,
  name: string,
): SnapshotRecord | undefined {
  const row = tx.sql.get(`${selectSnapshot} AND n.key = ?`, ns, kind, name);
  return row && decodeSnapshot(row);
}

export function decodeSnapshot(row: Row): SnapshotRecord {
  return {
    node: bigint(row, "node"),
    name: text(row, "key"),
    parent: optionalText(row, "parent_key") ?? "",
    parentNode: row["parent"] === null ? undefined : bigint(row, "parent"),
    backendKey: text(row, "backend_key"),
    labels: stringMap(row, "labels"),
    createdAt: bigint(row, "created_at"),
    updatedAt: bigint(row, "updated_at"),
  };
}

export interface NewSnapshot {
  readonly node: NodeId;
  readonly parentNode: NodeId | undefined;
  readonly backendKey: string;
  readonly labels: Labels;
  readonly createdAt: UnixNanos;
  readonly updatedAt: UnixNanos;
}

export function insertSnapshot(tx: Transaction, ns: string, snapshot: NewSnapshot): void {
  const { node, parentNode, labels } = snapshot;
  const { root } = tx.setLinks(ns, node, labels, parentNode === undefined ? [] : [parentNode]);
  tx.sql.run(
    `INSERT INTO snapshots (node, parent, backend_key, root, labels, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
    node,
    parentNode ?? null,
    snapshot.backendKey,
    Number(root),
    encodeMap(labels),
    snapshot.createdAt,
    snapshot.updatedAt,
  );
}

export function deleteSnapshot(tx: Transaction, node: NodeId): void {
  tx.sql.run("DELETE FROM snapshots WHERE node = ?", node);
  tx.clearLinks(node);
}

export function requireParent(
  tx: Transaction,
  ns: string,
  kind: string,
  parent: string,
): SnapshotRecord {
  const found = findSnapshot(tx, ns, kind, parent);
  if (!found) throw notFound(`parent snapshot ${parent} does not exist`);
  return found;
}

/** The labels that are a backend's business. */
export function inheritedLabels(labels: Labels): Labels {
  return Object.fromEntries(
    Object.entries(labels).filter(
      ([key]) => key === "containerd.io/snapshot.ref" || key.startsWith("containerd.io/snapshot/"),
    ),
  );
}
