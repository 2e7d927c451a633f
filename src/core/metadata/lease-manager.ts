import { randomBytes } from "node:crypto";
import type { Collector } from "#core/gc/gc.ts";
import type { Lease, LeaseManager, LeaseResource } from "#core/leases/leases.ts";
import { expiresMs, flatLabel, type NodeName } from "#core/metadata/gc-labels.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import type { Transaction } from "#core/metadata/transaction.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { parseDigest } from "#pkg/digest.ts";
import { alreadyExists, invalidArgument, notFound, notImplemented, wrap } from "#pkg/errors.ts";
import { type Adaptor, field, labelField } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { assertLabels, type Labels, withoutEmpty } from "#pkg/label.ts";
import { bigint, encodeMap, type Row, stringMap, text } from "#pkg/sqlite/row.ts";
import { nowNanos } from "#pkg/time.ts";

export class NamespacedLeaseManager implements LeaseManager {
  readonly #state: MetadataState;
  readonly #collector: Collector;

  constructor(state: MetadataState, collector: Collector) {
    this.#state = state;
    this.#collector = collector;
  }

  async create(
    ctx: Context,
    given: { readonly id: string; readonly labels: Labels },
  ): Promise<Lease> {
    const ns = requireNamespace(ctx);
    assertLabels(given.labels);
    const labels = withoutEmpty(given.labels);
    const createdAt = nowNanos();
    const id = given.id === "" ? randomId(createdAt) : given.id;
    await this.#state.update((tx) => {
      tx.ensureNamespace(ns);
      if (findLease(tx, ns, id) !== undefined) throw alreadyExists(`lease "${id}"`);
      tx.sql.run(
        `INSERT INTO leases (ns, name, expires_ms, flat, labels, created_at)
         VALUES (?, ?, ?, ?, ?, ?)`,
        ns,
        id,
        expiresMs(labels) ?? null,
        Number(Object.hasOwn(labels, flatLabel)),
        encodeMap(labels),
        createdAt,
      );
    });
    return { id, createdAt, labels };
  }

  async delete(ctx: Context, id: string, options: { readonly sync?: boolean } = {}): Promise<void> {
    const ns = requireNamespace(ctx);
    await this.#state.update((tx) => {
      if (tx.deleteLeases("ns = ? AND name = ?", ns, id) === 0) throw notFound(`lease "${id}"`);
      tx.dirty = true;
    });
    if (options.sync) await this.#collector.scheduleAndWait(ctx);
  }

  async list(ctx: Context, filters?: readonly string[]): Promise<readonly Lease[]> {
    const ns = requireNamespace(ctx);
    const matches = parseFilters(filters);
    const leases = await this.#state.view((tx) =>
      tx.sql.all("SELECT * FROM leases WHERE ns = ? ORDER BY name", ns).map(decodeLease),
    );
    return leases.filter((lease) => matches(leaseField(lease)));
  }

  async addResource(ctx: Context, leaseId: string, resource: LeaseResource): Promise<void> {
    const ns = requireNamespace(ctx);
    await this.#state.update((tx) => {
      const lease = requireLease(tx, ns, leaseId);
      const { kind, key } = resourceNode(resource);
      tx.sql.run(
        "INSERT OR IGNORE INTO lease_resources (lease, node) VALUES (?, ?)",
        lease,
        tx.node(ns, kind, key),
      );
    });
  }

  async deleteResource(ctx: Context, leaseId: string, resource: LeaseResource): Promise<void> {
    const ns = requireNamespace(ctx);
    await this.#state.update((tx) => {
      const lease = requireLease(tx, ns, leaseId);
      const { kind, key } = resourceNode(resource);
      const node = tx.findNode(ns, kind, key);
      if (node !== undefined) {
        tx.released.add(node);
        tx.sql.run("DELETE FROM lease_resources WHERE lease = ? AND node = ?", lease, node);
      }
      tx.dirty = true;
    });
  }

  async listResources(ctx: Context, leaseId: string): Promise<readonly LeaseResource[]> {
    const ns = requireNamespace(ctx);
    return this.#state.view((tx) => {
      const lease = requireLease(tx, ns, leaseId);
      const rows = tx.sql.all(
        `SELECT n.kind, n.key FROM lease_resources r JOIN nodes n ON n.id = r.node
         WHERE r.lease = ? ORDER BY n.kind, n.key`,
        lease,
      );
      return rows
        .map((row) => ({ type: resourceType(text(row, "kind")), id: text(row, "key") }))
        .toSorted((a, b) => rank(a.type) - rank(b.type));
    });
  }
}

/** Upstream's form: the nanoseconds within the second, and four random characters. */
function randomId(now: bigint): string {
  return `${now % 1_000_000_000n}-${randomBytes(3).toString("base64url")}`;
}

function findLease(tx: Transaction, ns: string, name: string): bigint | undefined {
  const row = tx.sql.get("SELECT id FROM leases WHERE ns = ? AND name = ?", ns, name);
  return row && bigint(row, "id");
}

function requireLease(tx: Transaction, ns: string, name: string): bigint {
  const lease = findLease(tx, ns, name);
  if (lease === undefined) throw notFound(`lease "${name}"`);
  return lease;
}

function decodeLease(row: Row): Lease {
  return {
    id: text(row, "name"),
    labels: stringMap(row, "labels"),
    createdAt: bigint(row, "created_at"),
  };
}

const kindOfType = new Map([
  ["content", "content"],
  ["images", "image"],
  ["ingests", "ingest"],
]);

function resourceNode({ type, id }: LeaseResource): NodeName {
  const [first = "", ...rest] = type.split("/");
  const kind = kindOfType.get(first);
  if (kind !== undefined) {
    if (rest.length > 0) throw invalidArgument(`invalid resource type ${type}`);
    if (kind === "content") assertContentId(id);
    return { kind, key: id };
  }
  if (first !== "snapshots") throw notImplemented(`resource type ${type} not supported yet`);
  if (rest.length !== 1) throw invalidArgument(`invalid snapshot resource type ${type}`);
  return { kind: `snapshot/${rest[0]}`, key: id };
}

function assertContentId(id: string): void {
  try {
    parseDigest(id);
  } catch (error) {
    throw wrap(`invalid content resource id ${id}`, error);
  }
}

function resourceType(kind: string): string {
  if (kind.startsWith("snapshot/")) return `snapshots/${kind.slice("snapshot/".length)}`;
  return kindOfType.entries().find(([, k]) => k === kind)?.[0] ?? kind;
}

/** Upstream lists kind by kind. */
function rank(type: string): number {
  const at = ["content", "images", "ingests"].indexOf(type);
  return at < 0 ? 3 : at;
}

/** What filters see of a lease. */
export function leaseField(lease: Lease): Adaptor {
  return (path) => {
    if (path[0] === "id") return field(lease.id);
    return path[0] === "labels" ? labelField(lease.labels, path) : undefined;
  };
}
