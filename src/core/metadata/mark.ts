import { setImmediate as nextTurn } from "node:timers/promises";
import type { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";

/** How long the event loop is kept at a time. */
const sliceMs = 2;
/** Rows of a table, and nodes whose references are asked for, in one query: well below a slice. */
const rowsAtOnce = 2048;
const nodesAtOnce = 256;

export const collectedTables = ["images", "snapshots", "blobs", "ingests"] as const;

export interface Candidate {
  readonly table: (typeof collectedTables)[number];
  readonly node: bigint;
}

/** What one state of the database says: nodes in one of the sets are kept, the objects among the others may go. */
export interface Marked {
  /** Led to from a root; so is all that these refer to. */
  readonly reached: ReadonlySet<number>;
  /** Held by flat leases: what these refer to need not be in either set. */
  readonly flat: ReadonlySet<number>;
  readonly candidates: readonly Candidate[];
  /** How long the event loop was kept, in all. */
  readonly heldMs: number;
}

const live = "SELECT id FROM leases WHERE (expires_ms IS NULL OR expires_ms >= ?1) AND flat =";

interface Roots {
  /** What the pages are of, and its integer key. */
  readonly table: string;
  readonly key: string;
  readonly query: string;
}

/** A page are the rows whose key is above `?2` and at most `?3`. */
const page = (key: string): string => `${key} > ?2 AND ${key} <= ?3`;
/** For queries that need not know the time, since all are given it. */
const always = "?1 IS NOT NULL";

/**
 * `?1` is now in milliseconds. An expired image or lease is no root; an image may still be reached. Ingests under a
 * flat lease are followed too: they lead to one blob.
 */
const roots: readonly Roots[] = [
  {
    table: "leases",
    key: "id",
    query: `SELECT node AS value FROM lease_resources WHERE lease IN (${live} 0 AND ${page("id")})
      UNION ALL
      SELECT i.node FROM lease_resources r JOIN ingests i ON i.node = r.node
        WHERE r.lease IN (${live} 1 AND ${page("id")})`,
  },
  ...[
    ["images", "expires_ms IS NULL OR expires_ms >= ?1"],
    ["containers", always],
    ["sandboxes", always],
    ["ingests", "expires_ms >= ?1"],
    ["blobs", `root = 1 AND ${always}`],
    ["snapshots", `root = 1 AND ${always}`],
  ].map(([table = "", where = ""]) => ({
    table,
    key: "node",
    query: `SELECT node AS value FROM ${table} WHERE (${where}) AND ${page("node")}`,
  })),
];

const referencesSql = `
  SELECT refs.dst AS value FROM json_each(?2) j CROSS JOIN refs ON refs.src = j.value
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
  SELECT id AS value FROM chain
  UNION ALL
  SELECT i.target FROM flat CROSS JOIN images i ON i.node = flat.id`;

/** Follows every reference from every root, a slice of the event loop at a time. */
export async function mark(snapshot: ReadSnapshot, nowMs: number): Promise<Marked> {
  const slices = new Slices();
  const reached = new Set<number>();
  const gray: number[] = [];
  const reach = (nodes: readonly number[]): void => {
    for (const node of nodes) {
      if (reached.has(node)) continue;
      reached.add(node);
      gray.push(node);
    }
  };
  for (const { table, key, query } of roots) {
    for (const { after, upTo } of pages(snapshot, table, key)) {
      reach(snapshot.numbers(query, nowMs, after, upTo));
      await slices.next();
    }
  }
  while (gray.length > 0) {
    const batch = gray.splice(-nodesAtOnce);
    reach(snapshot.numbers(referencesSql, nowMs, `[${batch.join(",")}]`));
    await slices.next();
  }
  const flat = new Set(snapshot.numbers(flatSql, nowMs));
  const candidates: Candidate[] = [];
  for (const table of collectedTables) {
    const query = `SELECT node AS value FROM ${table} WHERE node > ?1 AND node <= ?2`;
    for (const { after, upTo } of pages(snapshot, table, "node")) {
      for (const node of snapshot.numbers(query, after, upTo)) {
        if (!reached.has(node) && !flat.has(node)) candidates.push({ table, node: BigInt(node) });
      }
      await slices.next();
    }
  }
  return { reached, flat, candidates, heldMs: slices.heldMs() };
}

/** Ranges of a table's integer key that hold so many rows each. */
function* pages(
  snapshot: ReadSnapshot,
  table: string,
  key: string,
): Generator<{ readonly after: number; readonly upTo: number }> {
  const last = `SELECT max(${key}) AS value FROM
    (SELECT ${key} FROM ${table} WHERE ${key} > ? ORDER BY ${key} LIMIT ${rowsAtOnce})
    HAVING value IS NOT NULL`;
  for (let after = 0; ; ) {
    const [upTo] = snapshot.numbers(last, after);
    if (upTo === undefined) return;
    yield { after, upTo };
    after = upTo;
  }
}

/** Gives the event loop its turn whenever a slice of time is used up. */
class Slices {
  #startedMs = performance.now();
  #heldMs = 0;

  /** To be called between pieces of work. */
  async next(): Promise<void> {
    const usedMs = performance.now() - this.#startedMs;
    if (usedMs < sliceMs) return;
    this.#heldMs += usedMs;
    await nextTurn();
    this.#startedMs = performance.now();
  }

  heldMs(): number {
    return this.#heldMs + performance.now() - this.#startedMs;
  }
}
