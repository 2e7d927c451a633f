import type { Container, ContainerInput, ContainerStore } from "#core/containers/containers.ts";
import { containerCreate, containerDelete, containerUpdate } from "#core/events/convert.ts";
import { topics } from "#core/events/topics.ts";
import { decodeContainer, writeContainer } from "#core/metadata/container-rows.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import type { NodeId, Transaction } from "#core/metadata/transaction.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { alreadyExists, invalidArgument, notFound, wrap } from "#pkg/errors.ts";
import { keysByField, maskedKeys } from "#pkg/field-mask.ts";
import { type Adaptor, field, labelField } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { assertIdentifier } from "#pkg/identifier.ts";
import { assertLabels, withoutEmpty } from "#pkg/label.ts";
import { bigint, type Row, stringMap, text } from "#pkg/sqlite/row.ts";
import { nowNanos } from "#pkg/time.ts";

const selectContainer = `SELECT n.key, c.* FROM nodes n JOIN containers c ON c.node = n.id
  WHERE n.ns = ? AND n.kind = 'container'`;

/** What filters look at, and not the specifications, which are most of a record. */
const selectFilterable = `SELECT n.key, c.image, c.runtime, c.labels
  FROM nodes n JOIN containers c ON c.node = n.id WHERE n.ns = ? AND n.kind = 'container'`;

const mutableFields = ["labels", "spec", "extensions", "image", "snapshotkey"];

export class NamespacedContainerStore implements ContainerStore {
  readonly #state: MetadataState;

  constructor(state: MetadataState) {
    this.#state = state;
  }

  async get(ctx: Context, id: string): Promise<Container> {
    const ns = requireNamespace(ctx);
    const found = await this.#state.view((tx) => findContainer(tx, ns, id));
    if (!found) throw notFound(`container "${id}" in namespace "${ns}"`);
    return found.container;
  }

  async list(ctx: Context, filters?: readonly string[]): Promise<readonly Container[]> {
    const ns = requireNamespace(ctx);
    const matches = parseFilters(filters);
    return this.#state.view((tx) => {
      if ((filters ?? []).length === 0) {
        return tx.sql.all(`${selectContainer} ORDER BY n.key`, ns).map(decodeContainer);
      }
      return tx.sql
        .all(`${selectFilterable} ORDER BY n.key`, ns)
        .filter((row) => matches(containerField(decodeFilterable(row))))
        .map((row) => findContainer(tx, ns, text(row, "key"))?.container)
        .filter((container) => container !== undefined);
    });
  }

  async create(ctx: Context, given: ContainerInput): Promise<Container> {
    const ns = requireNamespace(ctx);
    try {
      assertContainer(given);
    } catch (error) {
      throw wrap("create container failed validation", error);
    }
    const at = nowNanos();
    const labels = withoutEmpty(given.labels);
    const container = { ...given, labels, createdAt: at, updatedAt: at };
    await this.#state.update((tx) => {
      tx.ensureNamespace(ns);
      if (findContainer(tx, ns, given.id)) throw alreadyExists(`container "${given.id}"`);
      writeContainer(tx, ns, container);
    });
    await this.#state.publish(ctx, topics.containerCreate, containerCreate(container));
    return container;
  }

  async update(
    ctx: Context,
    given: ContainerInput,
    fields: readonly string[] = [],
  ): Promise<Container> {
    if (given.id === "") throw invalidArgument("must specify a container id");
    const ns = requireNamespace(ctx);
    const container = await this.#state.update((tx) => {
      const found = findContainer(tx, ns, given.id);
      if (!found) throw notFound(`container "${given.id}"`);
      const updated = masked(found.container, given, fields);
      try {
        assertContainer(updated);
      } catch (error) {
        throw wrap("update failed validation", error);
      }
      const labels = withoutEmpty(updated.labels);
      const container = { ...updated, labels, updatedAt: nowNanos() };
      writeContainer(tx, ns, container);
      return container;
    });
    await this.#state.publish(ctx, topics.containerUpdate, containerUpdate(container));
    return container;
  }

  async delete(ctx: Context, id: string): Promise<void> {
    const ns = requireNamespace(ctx);
    await this.#state.update((tx) => {
      const found = findContainer(tx, ns, id);
      if (!found) throw notFound(`container "${id}" in namespace "${ns}"`);
      tx.sql.run("DELETE FROM containers WHERE node = ?", found.node);
      tx.clearLinks(found.node);
      tx.dirty = true;
    });
    await this.#state.publish(ctx, topics.containerDelete, containerDelete({ id }));
  }
}

function masked(current: Container, given: ContainerInput, fields: readonly string[]): Container {
  if (fields.length === 0) {
    if (current.snapshotter !== given.snapshotter) {
      throw invalidArgument("container.Snapshotter field is immutable");
    }
    if (current.runtime.name !== given.runtime.name) {
      throw invalidArgument("container.Runtime.Name field is immutable");
    }
  }
  let updated = current;
  const paths = fields.length === 0 ? mutableFields : fields;
  for (const mask of keysByField(paths, ["labels", "extensions"])) {
    updated = { ...updated, ...maskedField(updated, given, mask) };
  }
  return updated;
}

function maskedField(
  current: Container,
  given: ContainerInput,
  [field, keys]: readonly [string, readonly (string | undefined)[]],
): Partial<ContainerInput> {
  switch (field) {
    case "labels":
      return { labels: maskedKeys(current.labels, given.labels, keys) };
    case "extensions":
      return { extensions: maskedKeys(current.extensions, given.extensions, keys) };
    case "spec":
      return { spec: given.spec };
    case "image":
      return { image: given.image };
    case "snapshotkey":
      return { snapshotKey: given.snapshotKey };
    default:
      throw invalidArgument(`cannot update "${field}" field on "${given.id}"`);
  }
}

function assertContainer(container: ContainerInput): void {
  try {
    assertIdentifier(container.id);
  } catch (error) {
    throw wrap("container.ID", error);
  }
  if (Object.keys(container.extensions).includes("")) {
    throw invalidArgument("container.Extension keys must not be zero-length");
  }
  try {
    assertLabels(container.labels);
  } catch (error) {
    throw wrap("containers.Labels", error);
  }
  if (container.runtime.name === "") throw invalidArgument("container.Runtime.Name must be set");
  if (!container.spec) throw invalidArgument("container.Spec must be set");
  if (container.snapshotKey !== "" && container.snapshotter === "") {
    throw invalidArgument("container.Snapshotter must be set if container.SnapshotKey is set");
  }
}

function findContainer(
  tx: Transaction,
  ns: string,
  id: string,
): { readonly node: NodeId; readonly container: Container } | undefined {
  const row = tx.sql.get(`${selectContainer} AND n.key = ?`, ns, id);
  return row && { node: bigint(row, "node"), container: decodeContainer(row) };
}

type Filterable = Pick<Container, "id" | "image" | "labels"> & {
  readonly runtime: Pick<Container["runtime"], "name">;
};

function decodeFilterable(row: Row): Filterable {
  return {
    id: text(row, "key"),
    image: text(row, "image"),
    runtime: { name: text(row, "runtime") },
    labels: stringMap(row, "labels"),
  };
}

/** What filters see of a container. */
export function containerField(container: Filterable): Adaptor {
  return (path) => {
    switch (path[0]) {
      case "id":
        return field(container.id);
      case "runtime":
        return path[1] === "name" ? field(container.runtime.name) : undefined;
      case "image":
        return field(container.image);
      case "labels":
        return labelField(container.labels, path);
      default:
        return undefined;
    }
  };
}
