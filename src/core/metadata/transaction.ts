import assert from "node:assert";
import { type GcLinks, gcLinks, type NodeName } from "#core/metadata/gc-labels.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { invalidArgument, notFound } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";
import { bigint } from "#pkg/sqlite/row.ts";
import type { Sql } from "#pkg/sqlite/sql.ts";

/** Number of a node. Never seen outside the database. */
export type NodeId = bigint;

/** What the stores do inside one transaction; they share nodes, leases and the graph of what keeps what. */
export class Transaction {
  readonly sql: Sql;
  /** Backends (`content`, `snapshot/<name>`) that may hold something no record names once this has committed. */
  readonly dirtyBackends: Set<string> = new Set();
  /** Set by what may have made garbage: the scheduler of collections counts it. */
  dirty = false;
  /**
   * Nodes that something may have begun to keep. A collection that marks meanwhile looks at them again before it
   * deletes: whoever adds a reference, a root or a lease puts both ends here, and `node` does so by itself.
   */
  readonly touched: Set<NodeId> = new Set();
  /** Nodes that perhaps nothing needs any more. */
  readonly released: Set<NodeId> = new Set();

  constructor(sql: Sql) {
    this.sql = sql;
  }

  findNode(ns: string, kind: string, key: string): NodeId | undefined {
    const row = this.sql.get(
      "SELECT id FROM nodes WHERE ns = ? AND kind = ? AND key = ?",
      ns,
      kind,
      key,
    );
    return row && bigint(row, "id");
  }

  node(ns: string, kind: string, key: string): NodeId {
    const found = this.findNode(ns, kind, key);
    if (found !== undefined) {
      this.touched.add(found);
      return found;
    }
    const row = this.sql.get(
      "INSERT INTO nodes (ns, kind, key) VALUES (?, ?, ?) RETURNING id",
      ns,
      kind,
      key,
    );
    assert(row);
    const made = bigint(row, "id");
    this.touched.add(made);
    return made;
  }

  /** A namespace comes to be with the first write into it. */
  ensureNamespace(ns: string): void {
    if (ns === "version") throw invalidArgument(`namespace ${JSON.stringify(ns)} is reserved`);
    this.sql.run("INSERT OR IGNORE INTO namespaces (name, labels) VALUES (?, '{}')", ns);
  }

  /** Adds to the lease of the call, if it has one. Throws `not-found` when that lease does not exist. */
  addToLease(ctx: Context, node: NodeId): boolean {
    if (ctx.lease === undefined) return false;
    const lease = this.#findLease(ctx, ctx.lease);
    if (lease === undefined) throw notFound("lease does not exist");
    this.sql.run("INSERT OR IGNORE INTO lease_resources (lease, node) VALUES (?, ?)", lease, node);
    this.touched.add(node);
    return true;
  }

  removeFromLease(ctx: Context, node: NodeId): void {
    if (ctx.lease === undefined) return;
    const lease = this.#findLease(ctx, ctx.lease);
    if (lease === undefined) return;
    this.sql.run("DELETE FROM lease_resources WHERE lease = ? AND node = ?", lease, node);
    this.released.add(node);
  }

  /**
   * Replaces what an object's labels and fields say to the collector; `fields` are nodes it keeps whatever its labels.
   * Answers what the labels say, of which the caller stores the root mark.
   */
  setLinks(ns: string, owner: NodeId, labels: Labels, fields: readonly NodeId[] = []): GcLinks {
    const links = gcLinks(labels);
    this.#dropLinks(owner);
    this.touched.add(owner);
    for (const dst of fields) this.#ref(owner, dst, owner);
    for (const ref of links.refs) this.#ref(owner, this.#named(ns, ref), owner);
    for (const ref of links.backRefs) this.#ref(this.#named(ns, ref), owner, owner);
    for (const { snapshot, op, ageMs } of links.conditions) {
      this.sql.run(
        "INSERT OR IGNORE INTO conditional_refs (src, dst, op, age_ms) VALUES (?, ?, ?, ?)",
        owner,
        this.#named(ns, snapshot),
        op,
        ageMs,
      );
    }
    for (const ms of links.usedMs) {
      this.sql.run("INSERT OR IGNORE INTO uses (node, used_ms) VALUES (?, ?)", owner, ms);
    }
    return links;
  }

  /** The object is gone: it keeps nothing, and perhaps nobody needs its node. */
  clearLinks(owner: NodeId): void {
    this.released.add(owner);
    this.#dropLinks(owner);
  }

  #dropLinks(owner: NodeId): void {
    const refs = this.sql.all("DELETE FROM refs WHERE owner = ? RETURNING src, dst", owner);
    for (const row of refs) this.released.add(bigint(row, "src")).add(bigint(row, "dst"));
    const conditional = "DELETE FROM conditional_refs WHERE src = ? RETURNING dst";
    for (const row of this.sql.all(conditional, owner)) this.released.add(bigint(row, "dst"));
    this.sql.run("DELETE FROM uses WHERE node = ?", owner);
  }

  #named(ns: string, { kind, key }: NodeName): NodeId {
    return this.node(ns, kind, key);
  }

  #ref(src: NodeId, dst: NodeId, owner: NodeId): void {
    this.sql.run("INSERT OR IGNORE INTO refs (src, dst, owner) VALUES (?, ?, ?)", src, dst, owner);
    this.touched.add(dst);
  }

  /** Deletes leases by a condition, and tells of what they held; answers how many there were. */
  deleteLeases(where: string, ...values: readonly (string | number)[]): number {
    const held = `DELETE FROM lease_resources WHERE lease IN (SELECT id FROM leases WHERE ${where})
      RETURNING node`;
    for (const row of this.sql.all(held, ...values)) this.released.add(bigint(row, "node"));
    return this.sql.run(`DELETE FROM leases WHERE ${where}`, ...values);
  }

  #findLease(ctx: Context, name: string): bigint | undefined {
    const row = this.sql.get(
      "SELECT id FROM leases WHERE ns = ? AND name = ?",
      requireNamespace(ctx),
      name,
    );
    return row && bigint(row, "id");
  }
}
