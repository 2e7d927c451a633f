import type { NodeId } from "#core/metadata/transaction.ts";
import type { Sql } from "#pkg/sqlite/sql.ts";

/** Made once per connection: the marked nodes of the collection under way. */
export const markSchema = "CREATE TEMP TABLE reached (id INTEGER PRIMARY KEY) STRICT";

const liveLeases = `live AS (
  SELECT id, flat FROM main.leases WHERE expires_ms IS NULL OR expires_ms >= ?1)`;

/**
 * Everything that a root leads to: `?1` is now in milliseconds, `?2` more roots as JSON. An expired image or lease is
 * no root; an image may still be reached. Ingests under a flat lease are followed too: they lead to one blob.
 */
const markSql = `
  INSERT INTO temp.reached
  WITH RECURSIVE ${liveLeases},
  roots (id) AS (
    SELECT r.node FROM main.lease_resources r JOIN live ON live.id = r.lease WHERE live.flat = 0
    UNION ALL
    SELECT i.node FROM main.lease_resources r JOIN live ON live.id = r.lease
      JOIN main.ingests i ON i.node = r.node WHERE live.flat = 1
    UNION ALL SELECT node FROM main.images WHERE expires_ms IS NULL OR expires_ms >= ?1
    UNION ALL SELECT node FROM main.containers
    UNION ALL SELECT node FROM main.ingests WHERE expires_ms >= ?1
    UNION ALL SELECT node FROM main.blobs WHERE root = 1
    UNION ALL SELECT node FROM main.snapshots WHERE root = 1
    UNION ALL SELECT value FROM json_each(?2)
  ),
  reach (id) AS (
    SELECT id FROM roots
    UNION
    SELECT refs.dst FROM reach CROSS JOIN main.refs ON refs.src = reach.id
    UNION
    SELECT c.dst FROM reach CROSS JOIN main.conditional_refs c ON c.src = reach.id
      CROSS JOIN main.uses u ON u.node = c.dst
      WHERE (c.op = '<' AND ?1 - u.used_ms < c.age_ms) OR (c.op = '>' AND ?1 - u.used_ms > c.age_ms)
  )
  SELECT id FROM reach`;

/** What flat leases hold, without what it leads to: a snapshot still needs its parents, an image its target. */
const flatSql = `
  INSERT OR IGNORE INTO temp.reached
  WITH RECURSIVE ${liveLeases},
  flat (id) AS (
    SELECT r.node FROM main.lease_resources r JOIN live ON live.id = r.lease WHERE live.flat = 1),
  chain (id) AS (
    SELECT id FROM flat
    UNION
    SELECT s.parent FROM chain CROSS JOIN main.snapshots s ON s.node = chain.id
      WHERE s.parent IS NOT NULL
  )
  SELECT id FROM chain
  UNION ALL
  SELECT i.target FROM flat CROSS JOIN main.images i ON i.node = flat.id`;

/** Fills the table of reached nodes. Whatever of it the caller reads or deletes by is within one transaction. */
export function mark(sql: Sql, nowMs: number, moreRoots: readonly NodeId[]): void {
  sql.run("DELETE FROM temp.reached");
  sql.run(markSql, nowMs, `[${moreRoots.join(",")}]`);
  sql.run(flatSql, nowMs);
}
