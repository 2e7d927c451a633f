import type { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";
import { bigint, number, optionalText, type Row, text } from "#pkg/sqlite/row.ts";

/** What is kept, keeps, or stands between the two. */
export interface Kept {
  readonly node: bigint;
  readonly namespace: string;
  /** As in the database: `content`, `image`, `snapshot/overlayfs`. */
  readonly kind: string;
  readonly key: string;
}

/** Why something is kept by itself: it is a root of collections. */
export type RootReason =
  | { readonly kind: "lease"; readonly name: string; readonly untilMs: number | undefined }
  | { readonly kind: "label" }
  | { readonly kind: "object" };

export interface Keeper {
  readonly reason: RootReason;
  /** From the root down to what it keeps, both included; each keeps the next. */
  readonly path: readonly Kept[];
}

/** The objects of this key, or whose key begins with it, in every namespace; labels may name what is not there. */
export function findKept(db: ReadSnapshot, key: string): readonly Kept[] {
  const found = db.rows(`${named} WHERE key = ? AND ${stands} ORDER BY ns, kind`, key);
  if (found.length > 0) return found.map(toKept);
  const begin = `${named} WHERE substr(key, 1, length(?1)) = ?1 AND ${stands} ORDER BY ns, kind, key`;
  return db.rows(begin, key).map(toKept);
}

/**
 * Every root that leads to a node, each by a shortest way. None: the next collection takes it.
 *
 * The way back along what `mark` follows; `nowMs` decides what has expired.
 */
export function keepersOf(db: ReadSnapshot, target: Kept, nowMs: number): readonly Keeper[] {
  const keepers: Keeper[] = [];
  const seen = new Map<string, readonly Kept[]>([[step(target, true), [target]]]);
  // A Map gives what is added while it is read: breadth first.
  for (const [at, path] of seen) {
    const [node] = path;
    if (!node) continue;
    const isPlain = at.startsWith("plain");
    for (const reason of rootReasons(db, node.node, { nowMs, isPlain })) {
      keepers.push({ reason, path });
    }
    for (const row of db.rows(keptBySql, node.node, nowMs)) {
      const next = toKept(row);
      // A flat lease keeps what its objects are made of, and not what their labels name.
      const key = step(next, isPlain && number(row, "part") === 1);
      if (!seen.has(key)) seen.set(key, [next, ...path]);
    }
  }
  return distinct(keepers);
}

const named = "SELECT id, ns, kind, key FROM nodes";
const stands = ["blobs", "ingests", "images", "containers", "sandboxes", "snapshots"]
  .map((table) => `EXISTS (SELECT 1 FROM ${table} WHERE node = nodes.id)`)
  .join(" OR ")
  .replace(/^.*$/s, "($&)");

/** `part`: a snapshot's child and an image, which cannot be without it. */
const keptBySql = `
  SELECT n.id, n.ns, n.kind, n.key, max(k.part) AS part FROM (
    SELECT src AS id, EXISTS (SELECT 1 FROM snapshots WHERE node = src AND parent = ?1)
        OR EXISTS (SELECT 1 FROM images WHERE node = src AND target = ?1) AS part
      FROM refs WHERE dst = ?1
    UNION ALL
    SELECT c.src, 0 FROM conditional_refs c CROSS JOIN uses u ON u.node = c.dst
      WHERE c.dst = ?1
        AND ((c.op = '<' AND ?2 - u.used_ms < c.age_ms) OR (c.op = '>' AND ?2 - u.used_ms > c.age_ms))
  ) k CROSS JOIN nodes n ON n.id = k.id GROUP BY n.id ORDER BY n.ns, n.kind, n.key`;

const rootSql = `
  SELECT 'lease' AS reason, l.name, l.expires_ms FROM lease_resources r
    CROSS JOIN leases l ON l.id = r.lease
    WHERE r.node = ?1 AND (l.expires_ms IS NULL OR l.expires_ms >= ?2)
      AND (l.flat = 0 OR ?3 = 1 OR EXISTS (SELECT 1 FROM ingests WHERE node = ?1))
  UNION ALL
  SELECT 'object', NULL, NULL FROM images WHERE node = ?1 AND (expires_ms IS NULL OR expires_ms >= ?2)
  UNION ALL SELECT 'object', NULL, NULL FROM containers WHERE node = ?1
  UNION ALL SELECT 'object', NULL, NULL FROM sandboxes WHERE node = ?1
  UNION ALL SELECT 'object', NULL, NULL FROM ingests WHERE node = ?1 AND expires_ms >= ?2
  UNION ALL SELECT 'label', NULL, NULL FROM blobs WHERE node = ?1 AND root = 1
  UNION ALL SELECT 'label', NULL, NULL FROM snapshots WHERE node = ?1 AND root = 1`;

function rootReasons(
  db: ReadSnapshot,
  node: bigint,
  { nowMs, isPlain }: { nowMs: number; isPlain: boolean },
): readonly RootReason[] {
  return db.rows(rootSql, node, nowMs, isPlain ? 1 : 0).map((row): RootReason => {
    const kind = text(row, "reason");
    if (kind !== "lease") return { kind: kind === "label" ? "label" : "object" };
    const untilMs = row["expires_ms"] === null ? undefined : number(row, "expires_ms");
    return { kind, name: optionalText(row, "name") ?? "", untilMs };
  });
}

function step({ node }: Kept, isPlain: boolean): string {
  return `${isPlain ? "plain" : "along a label"} ${node}`;
}

/** A root may be come to both ways. */
function distinct(keepers: readonly Keeper[]): readonly Keeper[] {
  const known = new Set<string>();
  return keepers.filter(({ reason, path }) => {
    const key = JSON.stringify([reason, String(path[0]?.node)]);
    return known.size < known.add(key).size;
  });
}

function toKept(row: Row): Kept {
  return {
    node: bigint(row, "id"),
    namespace: text(row, "ns"),
    kind: text(row, "kind"),
    key: text(row, "key"),
  };
}
