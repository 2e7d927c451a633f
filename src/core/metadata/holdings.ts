import { mark } from "#core/metadata/mark.ts";
import type { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";
import { bigint, number, type Row, text } from "#pkg/sqlite/row.ts";

/** Objects of one kind in one namespace. */
export interface Holding {
  readonly namespace: string;
  /** As in the database: `content`, `image`, `snapshot/overlayfs`, and `lease`. */
  readonly kind: string;
  readonly objects: readonly Held[];
}

export interface Held {
  readonly key: string;
  /** The key its backend knows it by; of blobs that is their digest. */
  readonly backendKey: string;
  /** Of blobs; what others take is known to their backends. */
  readonly sizeBytes: number | undefined;
  /** Nothing keeps it: the next collection takes it. */
  readonly isGarbage: boolean;
}

const held = `
  SELECT node, key AS backend, size FROM blobs JOIN nodes ON id = node
  UNION ALL SELECT node, backend_ref, NULL FROM ingests
  UNION ALL SELECT node, '', NULL FROM images
  UNION ALL SELECT node, '', NULL FROM containers
  UNION ALL SELECT node, '', NULL FROM sandboxes
  UNION ALL SELECT node, backend_key, NULL FROM snapshots`;

const objects = `SELECT n.ns, n.kind, n.key, h.node, h.backend, h.size FROM (${held}) h
  CROSS JOIN nodes n ON n.id = h.node ORDER BY n.ns, n.kind, n.key`;

const leases = `SELECT ns, 'lease' AS kind, name AS key, '' AS backend, NULL AS size,
  expires_ms IS NOT NULL AND expires_ms < ? AS garbage FROM leases ORDER BY ns, name`;

/** Everything that is recorded, by namespace and kind. */
export async function holdingsOf(db: ReadSnapshot, nowMs: number): Promise<readonly Holding[]> {
  const { candidates } = await mark(db, nowMs);
  const garbage = new Set(candidates.map(({ node }) => node));
  const all = [
    ...db.rows(objects).map((row) => ({ row, isGarbage: garbage.has(bigint(row, "node")) })),
    ...db.rows(leases, nowMs).map((row) => ({ row, isGarbage: bigint(row, "garbage") === 1n })),
  ];
  const groups = Map.groupBy(all, ({ row }) => `${text(row, "ns")} ${text(row, "kind")}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (!first) return [];
    const { row } = first;
    const members = group.map((member) => toHeld(member.row, member.isGarbage));
    return [{ namespace: text(row, "ns"), kind: text(row, "kind"), objects: members }];
  });
}

function toHeld(row: Row, isGarbage: boolean): Held {
  return {
    key: text(row, "key"),
    backendKey: text(row, "backend"),
    sizeBytes: row["size"] === null ? undefined : number(row, "size"),
    isGarbage,
  };
}
