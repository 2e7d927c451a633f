import { setImmediate as nextTurn } from "node:timers/promises";
import type { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";

/** How long the event loop is kept at a time, and after how many rows the time is looked at. */
const sliceMs = 2;
const rowsBetweenLooks = 64;
/** Nodes whose references are asked for in one query. */
const nodesAtOnce = 256;

export const collectedTables = ["images", "snapshots", "blobs", "ingests"] as const;

export interface Candidate {
  readonly table: (typeof collectedTables)[number];
  readonly node: bigint;
}

/** What one state of the database says: `reached` nodes are kept, the objects among the others may go. */
export interface Marked {
  readonly reached: ReadonlySet<number>;
  readonly candidates: readonly Candidate[];
}

const live = "SELECT id FROM leases WHERE (expires_ms IS NULL OR expires_ms >= ?1) AND flat =";

/**
 * `?1` is now in milliseconds. An expired image or lease is no root; an image may still be reached. Ingests under a
 * flat lease are followed too: they lead to one blob.
 */
const rootsSql = `
  SELECT node FROM lease_resources WHERE lease IN (${live} 0)
  UNION ALL
  SELECT i.node FROM lease_resources r JOIN ingests i ON i.node = r.node WHERE r.lease IN (${live} 1)
  UNION ALL SELECT node FROM images WHERE expires_ms IS NULL OR expires_ms >= ?1
  UNION ALL SELECT node FROM containers
  UNION ALL SELECT node FROM sandboxes
  UNION ALL SELECT node FROM ingests WHERE expires_ms >= ?1
  UNION ALL SELECT node FROM blobs WHERE root = 1
  UNION ALL SELECT node FROM snapshots WHERE root = 1`;

const referencesSql = `
  SELECT refs.dst FROM json_each(?2) j CROSS JOIN refs ON refs.src = j.value
  UNION ALL
  SELECT c.dst FROM json_each(?2) j CROSS JOIN conditional_refs c ON c.src = j.value
    CROSS JOIN uses u ON u.node = c.dst
    WHERE (c.op = '<' AND ?1 - u.used_ms < c.age_ms) OR (c.op = '>' AND ?1 - u.used_ms > c.age_ms)`;

/** What flat leases hold, without what it leads to: a snapshot still needs its parents, an image its target. */
const flatSql = `
  WITH RECURSIVE
  flat (id) AS (SELECT node FROM lease_resources WHERE lease IN (${live} 1)),
  chain (id) AS (
    SELECT id FROM flat
    UNION
    SELECT s.parent FROM chain CROSS JOIN snapshots s ON s.node = chain.id
      WHERE s.parent IS NOT NULL
  )
  SELECT id FROM chain
  UNION ALL
  SELECT i.target FROM flat CROSS JOIN images i ON i.node = flat.id`;

/** Follows every reference from every root, a slice of the event loop at a time. */
export async function mark(snapshot: ReadSnapshot, nowMs: number): Promise<Marked> {
  const slices = new Slices();
  const reached = new Set<number>();
  let gray: number[] = [];
  const reach = (node: number): void => {
    if (reached.has(node)) return;
    reached.add(node);
    gray.push(node);
  };
  await slices.each(snapshot.numbers(rootsSql, nowMs), reach);
  while (gray.length > 0) {
    const batch = gray.splice(-nodesAtOnce);
    const references = snapshot.numbers(referencesSql, nowMs, `[${batch.join(",")}]`);
    await slices.each(references, reach);
  }
  gray = [];
  await slices.each(snapshot.numbers(flatSql, nowMs), (node) => reached.add(node));
  const candidates: Candidate[] = [];
  for (const table of collectedTables) {
    await slices.each(snapshot.numbers(`SELECT node FROM ${table}`), (node) => {
      if (!reached.has(node)) candidates.push({ table, node: BigInt(node) });
    });
  }
  return { reached, candidates };
}

/** Gives the event loop its turn whenever a slice of time is used up. */
class Slices {
  #startedMs = performance.now();
  #rows = 0;

  async each(rows: Iterable<number>, use: (row: number) => void): Promise<void> {
    for (const row of rows) {
      use(row);
      if (++this.#rows % rowsBetweenLooks !== 0) continue;
      if (performance.now() - this.#startedMs < sliceMs) continue;
      await nextTurn();
      this.#startedMs = performance.now();
    }
  }
}
