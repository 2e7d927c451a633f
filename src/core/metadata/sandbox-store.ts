import { decodeAny, decodeAnyMap, encodeAnyMap } from "#core/metadata/any-columns.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import type { Sandbox, SandboxInput, SandboxStore } from "#core/sandbox/sandbox.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { alreadyExists, invalidArgument, notFound, wrap } from "#pkg/errors.ts";
import { keysByField, maskedKeys } from "#pkg/field-mask.ts";
import { type Adaptor, field, labelField } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { assertIdentifier } from "#pkg/identifier.ts";
import { assertLabels, withoutEmpty } from "#pkg/label.ts";
import { bigint, encodeMap, type Row, stringMap, text } from "#pkg/sqlite/row.ts";
import { nowNanos } from "#pkg/time.ts";

const selectSandbox = `SELECT n.key, s.* FROM nodes n JOIN sandboxes s ON s.node = n.id
  WHERE n.ns = ? AND n.kind = 'sandbox'`;

const mutableFields = ["labels", "extensions", "spec", "runtime"];

export class NamespacedSandboxStore implements SandboxStore {
  readonly #state: MetadataState;

  constructor(state: MetadataState) {
    this.#state = state;
  }

  async get(ctx: Context, id: string): Promise<Sandbox> {
    const ns = requireNamespace(ctx);
    const found = await this.#state.view((tx) => findSandbox(tx, ns, id));
    if (!found) throw notFound(`sandbox "${id}" in namespace "${ns}"`);
    return found.sandbox;
  }

  async list(ctx: Context, filters?: readonly string[]): Promise<readonly Sandbox[]> {
    const ns = requireNamespace(ctx);
    const matches = parseFilters(filters);
    const sandboxes = await this.#state.view((tx) =>
      tx.sql.all(`${selectSandbox} ORDER BY n.key`, ns).map(decodeSandbox),
    );
    return sandboxes.filter((sandbox) => matches(sandboxField(sandbox)));
  }

  async create(ctx: Context, given: SandboxInput): Promise<Sandbox> {
    const ns = requireNamespace(ctx);
    try {
      assertSandbox(given);
    } catch (error) {
      throw wrap("failed to validate sandbox", error);
    }
    const at = nowNanos();
    const sandbox = {
      ...given,
      labels: withoutEmpty(given.labels),
      createdAt: at,
      updatedAt: at,
    };
    await this.#state.update((tx) => {
      tx.ensureNamespace(ns);
      if (findSandbox(tx, ns, given.id)) throw alreadyExists(`sandbox "${given.id}"`);
      writeSandbox(tx, ns, sandbox);
    });
    return sandbox;
  }

  async update(
    ctx: Context,
    given: SandboxInput,
    fields: readonly string[] = [],
  ): Promise<Sandbox> {
    const ns = requireNamespace(ctx);
    return this.#state.update((tx) => {
      const found = findSandbox(tx, ns, given.id);
      if (!found) throw notFound(`sandbox "${given.id}" in namespace "${ns}"`);
      const updated = masked(found.sandbox, given, fields);
      assertSandbox(updated);
      const labels = withoutEmpty(updated.labels);
      const sandbox = { ...updated, labels, updatedAt: nowNanos() };
      writeSandbox(tx, ns, sandbox);
      tx.dirty = true;
      return sandbox;
    });
  }

  async delete(ctx: Context, id: string): Promise<void> {
    const ns = requireNamespace(ctx);
    await this.#state.update((tx) => {
      const found = findSandbox(tx, ns, id);
      if (!found) throw notFound(`failed to delete sandbox "${id}"`);
      deleteSandbox(tx, found.node);
    });
  }
}

/** All of a namespace that is deleted. */
export function deleteSandboxes(tx: Transaction, ns: string): void {
  for (const row of tx.sql.all(selectSandbox, ns)) deleteSandbox(tx, bigint(row, "node"));
}

function deleteSandbox(tx: Transaction, node: NodeId): void {
  tx.sql.run("DELETE FROM sandboxes WHERE node = ?", node);
  tx.clearLinks(node);
  tx.dirty = true;
}

function masked(current: Sandbox, given: SandboxInput, fields: readonly string[]): Sandbox {
  if (fields.length === 0 && current.runtime.name !== given.runtime.name) {
    throw invalidArgument("sandbox.Runtime.Name field is immutable");
  }
  let updated = current;
  const paths = fields.length === 0 ? mutableFields : fields;
  for (const mask of keysByField(paths, ["labels", "extensions"])) {
    updated = { ...updated, ...maskedField(updated, given, mask) };
  }
  return updated;
}

function maskedField(
  current: Sandbox,
  given: SandboxInput,
  [field, keys]: readonly [string, readonly (string | undefined)[]],
): Partial<SandboxInput> {
  switch (field) {
    case "labels":
      return { labels: maskedKeys(current.labels, given.labels, keys) };
    case "extensions":
      return { extensions: maskedKeys(current.extensions, given.extensions, keys) };
    case "spec":
      return { spec: given.spec };
    case "runtime":
      return { runtime: given.runtime };
    default:
      throw invalidArgument(`cannot update "${field}" field on sandbox "${given.id}"`);
  }
}

function assertSandbox(sandbox: SandboxInput): void {
  try {
    assertIdentifier(sandbox.id);
  } catch (error) {
    throw wrap("invalid sandbox ID", error);
  }
  assertLabels(sandbox.labels);
}

function findSandbox(
  tx: Transaction,
  ns: string,
  id: string,
): { readonly node: NodeId; readonly sandbox: Sandbox } | undefined {
  const row = tx.sql.get(`${selectSandbox} AND n.key = ?`, ns, id);
  return row && { node: bigint(row, "node"), sandbox: decodeSandbox(row) };
}

function decodeSandbox(row: Row): Sandbox {
  return {
    id: text(row, "key"),
    labels: stringMap(row, "labels"),
    runtime: {
      name: text(row, "runtime"),
      options: decodeAny(row, "runtime_options_type", "runtime_options"),
    },
    spec: decodeAny(row, "spec_type", "spec"),
    sandboxer: text(row, "sandboxer"),
    createdAt: bigint(row, "created_at"),
    updatedAt: bigint(row, "updated_at"),
    extensions: decodeAnyMap(row, "extensions"),
  };
}

function writeSandbox(tx: Transaction, ns: string, sandbox: Sandbox): void {
  const { runtime, spec, labels } = sandbox;
  const node = tx.node(ns, "sandbox", sandbox.id);
  tx.sql.run(
    `INSERT OR REPLACE INTO sandboxes (node, runtime, runtime_options_type, runtime_options,
       spec_type, spec, sandboxer, extensions, labels, created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    node,
    runtime.name,
    runtime.options?.typeUrl ?? null,
    runtime.options?.value ?? null,
    spec?.typeUrl ?? null,
    spec?.value ?? null,
    sandbox.sandboxer,
    encodeAnyMap(sandbox.extensions),
    encodeMap(labels),
    sandbox.createdAt,
    sandbox.updatedAt,
  );
  tx.setLinks(ns, node, labels);
}

/** What filters see of a sandbox. */
function sandboxField(sandbox: Sandbox): Adaptor {
  return (path) => {
    if (path[0] === "id") return field(sandbox.id);
    return path[0] === "labels" ? labelField(sandbox.labels, path) : undefined;
  };
}
