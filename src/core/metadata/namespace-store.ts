import { namespaceCreate, namespaceDelete, namespaceUpdate } from "#core/events/convert.ts";
import { topics } from "#core/events/topics.ts";
import { deleteSandboxes } from "#core/metadata/sandbox-store.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import type { Transaction } from "#core/metadata/transaction.ts";
import type { NamespaceRecord, NamespaceStore } from "#core/namespaces/namespaces.ts";
import type { Context } from "#pkg/context.ts";
import { alreadyExists, failedPrecondition, notFound, wrap } from "#pkg/errors.ts";
import { assertIdentifier } from "#pkg/identifier.ts";
import { assertLabels, type Labels, withoutEmpty } from "#pkg/label.ts";
import { bigint, encodeMap, stringMap, text } from "#pkg/sqlite/row.ts";

export class SqliteNamespaceStore implements NamespaceStore {
  readonly #state: MetadataState;

  constructor(state: MetadataState) {
    this.#state = state;
  }

  async labels(_ctx: Context, name: string): Promise<Labels> {
    return this.#state.view((tx) => findLabels(tx, name) ?? {});
  }

  async list(): Promise<readonly NamespaceRecord[]> {
    return this.#state.view((tx) =>
      tx.sql
        .all("SELECT name, labels FROM namespaces ORDER BY name")
        .map((row) => ({ name: text(row, "name"), labels: stringMap(row, "labels") })),
    );
  }

  async create(ctx: Context, name: string, labels: Labels): Promise<void> {
    assertIdentifier(name);
    assertNamespaceLabels(labels);
    await this.#state.update((tx) => {
      if (findLabels(tx, name)) throw alreadyExists(`namespace "${name}"`);
      writeLabels(tx, name, labels);
    });
    const event = namespaceCreate({ name, labels });
    await this.#state.publish(ctx.withNamespace(name), topics.namespaceCreate, event);
  }

  async setLabel(ctx: Context, name: string, key: string, value: string): Promise<void> {
    await this.update(ctx, { name, labels: Object.fromEntries([[key, value]]) }, [key]);
  }

  async update(
    ctx: Context,
    { name, labels }: NamespaceRecord,
    keys?: readonly string[],
  ): Promise<void> {
    assertIdentifier(name);
    assertNamespaceLabels(labels);
    await this.#state.update((tx) => {
      if (!keys) return writeLabels(tx, name, labels);
      const merged = new Map(Object.entries(findLabels(tx, name) ?? {}));
      for (const key of keys) merged.set(key, (Object.hasOwn(labels, key) && labels[key]) || "");
      writeLabels(tx, name, Object.fromEntries(merged));
    });
    const event = namespaceUpdate({ name, labels });
    await this.#state.publish(ctx.withNamespace(name), topics.namespaceUpdate, event);
  }

  async delete(ctx: Context, name: string): Promise<void> {
    await this.#state.update((tx) => {
      const held = remaining(tx, name);
      if (held.length > 0) {
        throw failedPrecondition(
          `namespace "${name}" must be empty, but it still has ${held.join(", ")}`,
        );
      }
      if (!findLabels(tx, name)) throw notFound(`namespace "${name}"`);
      tx.sql.run("DELETE FROM namespaces WHERE name = ?", name);
      tx.deleteLeases("ns = ?", name);
      // As upstream: sandboxes do not keep their namespace.
      deleteSandboxes(tx, name);
      deleteIngests(tx, name);
      tx.dirtyBackends.add("content");
    });
    const event = namespaceDelete({ name });
    await this.#state.publish(ctx.withNamespace(name), topics.namespaceDelete, event);
  }
}

function deleteIngests(tx: Transaction, ns: string): void {
  const ingests = tx.sql.all("SELECT id FROM nodes WHERE ns = ? AND kind = 'ingest'", ns);
  for (const row of ingests) {
    const node = bigint(row, "id");
    tx.sql.run("DELETE FROM ingests WHERE node = ?", node);
    tx.clearLinks(node);
  }
}

function findLabels(tx: Transaction, name: string): Labels | undefined {
  const row = tx.sql.get("SELECT labels FROM namespaces WHERE name = ?", name);
  return row && stringMap(row, "labels");
}

function writeLabels(tx: Transaction, name: string, labels: Labels): void {
  tx.ensureNamespace(name);
  const stored = encodeMap(withoutEmpty(labels));
  tx.sql.run("UPDATE namespaces SET labels = ? WHERE name = ?", stored, name);
}

function assertNamespaceLabels(labels: Labels): void {
  try {
    assertLabels(labels);
  } catch (error) {
    throw wrap("namespace.Labels", error);
  }
}

/** Kinds of what the namespace still has, in upstream's words. */
function remaining(tx: Transaction, ns: string): string[] {
  const held: string[] = [];
  const kinds = [
    ["image", "images", "images"],
    ["content", "blobs", "blobs"],
    ["container", "containers", "containers"],
  ] as const;
  for (const [kind, table, word] of kinds) {
    const row = tx.sql.get(
      `SELECT 1 FROM nodes n JOIN ${table} t ON t.node = n.id
       WHERE n.ns = ? AND n.kind = ? LIMIT 1`,
      ns,
      kind,
    );
    if (row) held.push(word);
  }
  const snapshotters = tx.sql.all(
    `SELECT DISTINCT n.kind FROM nodes n JOIN snapshots s ON s.node = n.id
     WHERE n.ns = ? ORDER BY n.kind`,
    ns,
  );
  for (const row of snapshotters) {
    const name = text(row, "kind").slice("snapshot/".length);
    held.push(`snapshots on "${name}" snapshotter`);
  }
  return held;
}
