import type { ContentInfo } from "#core/content/content.ts";
import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, parseDigest } from "#pkg/digest.ts";
import { bigint, number, optionalText, type Row, stringMap, text } from "#pkg/sqlite/row.ts";

/** How long an ingest that no lease holds is kept. */
const ingestLifeMs = 24 * 60 * 60 * 1000;
const shareableLabel = "containerd.io/namespace.shareable";

export function findBlob(
  tx: Transaction,
  ns: string,
  digest: Digest,
): { readonly node: NodeId; readonly info: ContentInfo } | undefined {
  const row = tx.sql.get(
    `SELECT n.key, b.* FROM nodes n JOIN blobs b ON b.node = n.id
     WHERE n.ns = ? AND n.kind = 'content' AND n.key = ?`,
    ns,
    digest,
  );
  return row && { node: bigint(row, "node"), info: decodeBlob(row) };
}

export function decodeBlob(row: Row): ContentInfo {
  return {
    digest: parseDigest(text(row, "key")),
    sizeBytes: number(row, "size"),
    labels: stringMap(row, "labels"),
    createdAt: bigint(row, "created_at"),
    updatedAt: bigint(row, "updated_at"),
  };
}

export interface Ingest {
  readonly node: NodeId;
  readonly backendRef: string;
}

export function findIngest(tx: Transaction, ns: string, ref: string): Ingest | undefined {
  const row = tx.sql.get(
    `SELECT i.* FROM nodes n JOIN ingests i ON i.node = n.id
     WHERE n.ns = ? AND n.kind = 'ingest' AND n.key = ?`,
    ns,
    ref,
  );
  return row && { node: bigint(row, "node"), backendRef: text(row, "backend_ref") };
}

export function recordIngest(
  tx: Transaction,
  ctx: Context,
  ingest: { ns: string; ref: string; backendRef: string; expected: Digest | undefined },
): void {
  const { ns, ref, backendRef, expected } = ingest;
  const node = tx.node(ns, "ingest", ref);
  const leased = tx.addToLease(ctx, node);
  tx.sql.run(
    `INSERT INTO ingests (node, backend_ref, expected, expires_ms) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (node) DO UPDATE SET
       expected = coalesce(?3, expected), expires_ms = coalesce(?4, expires_ms)`,
    node,
    backendRef,
    expected ?? null,
    leased ? null : Date.now() + ingestLifeMs,
  );
  if (expected !== undefined) {
    tx.setLinks(ns, node, {}, [tx.node(ns, "content", expected)]);
  }
}

export function removeIngest(tx: Transaction, ctx: Context, node: NodeId): void {
  tx.sql.run("DELETE FROM ingests WHERE node = ?", node);
  tx.clearLinks(node);
  tx.removeFromLease(ctx, node);
}

/** Whether a namespace that has the blob is open to the others. */
export function isShareable(tx: Transaction, digest: Digest): boolean {
  const rows = tx.sql.all(
    `SELECT s.labels FROM namespaces s
     CROSS JOIN nodes n ON n.ns = s.name AND n.kind = 'content' AND n.key = ?
     CROSS JOIN blobs b ON b.node = n.id`,
    digest,
  );
  return rows.some((row) => stringMap(row, "labels")[shareableLabel] === "true");
}

/** How many bytes a blob has by the records, whichever namespace's. */
export function recordedSize(tx: Transaction, digest: Digest): number | undefined {
  const row = tx.sql.get(
    `SELECT b.size FROM namespaces s
     CROSS JOIN nodes n ON n.ns = s.name AND n.kind = 'content' AND n.key = ?
     CROSS JOIN blobs b ON b.node = n.id LIMIT 1`,
    digest,
  );
  return row && number(row, "size");
}

export function isBlobNamed(tx: Transaction, digest: Digest): boolean {
  const row = tx.sql.get(
    `SELECT 1 FROM namespaces s
     CROSS JOIN nodes n ON n.ns = s.name AND n.kind = 'content' AND n.key = ?1
     CROSS JOIN blobs b ON b.node = n.id
     UNION ALL SELECT 1 FROM ingests WHERE expected = ?1`,
    digest,
  );
  return row !== undefined;
}

export function backendNames(tx: Transaction): { blobs: Set<string>; ingests: Set<string> } {
  const blobs = new Set<string>();
  const ingests = new Set<string>();
  const named = tx.sql.all(
    "SELECT DISTINCT n.key FROM blobs b CROSS JOIN nodes n ON n.id = b.node",
  );
  for (const row of named) blobs.add(text(row, "key"));
  for (const row of tx.sql.all("SELECT backend_ref, expected FROM ingests")) {
    ingests.add(text(row, "backend_ref"));
    const expected = optionalText(row, "expected");
    if (expected !== undefined) blobs.add(expected);
  }
  return { blobs, ingests };
}
