import type { Container } from "#core/containers/containers.ts";
import { decodeAny, decodeAnyMap, encodeAnyMap } from "#core/metadata/any-columns.ts";
import type { Transaction } from "#core/metadata/transaction.ts";
import { bigint, encodeMap, type Row, stringMap, text } from "#pkg/sqlite/row.ts";

export function decodeContainer(row: Row): Container {
  return {
    id: text(row, "key"),
    labels: stringMap(row, "labels"),
    image: text(row, "image"),
    runtime: {
      name: text(row, "runtime"),
      options: decodeAny(row, "runtime_options_type", "runtime_options"),
    },
    spec: decodeAny(row, "spec_type", "spec"),
    snapshotter: text(row, "snapshotter"),
    snapshotKey: text(row, "snapshot_key"),
    createdAt: bigint(row, "created_at"),
    updatedAt: bigint(row, "updated_at"),
    extensions: decodeAnyMap(row, "extensions"),
    sandbox: text(row, "sandbox"),
  };
}

export function writeContainer(tx: Transaction, ns: string, container: Container): void {
  const { runtime, spec, snapshotter, snapshotKey, labels } = container;
  const node = tx.node(ns, "container", container.id);
  tx.sql.run(
    `INSERT OR REPLACE INTO containers (node, image, runtime, runtime_options_type,
       runtime_options, spec_type, spec, snapshotter, snapshot_key, sandbox, extensions, labels,
       created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    node,
    container.image,
    runtime.name,
    runtime.options?.typeUrl ?? null,
    runtime.options?.value ?? null,
    spec?.typeUrl ?? "",
    spec?.value ?? new Uint8Array(),
    snapshotter,
    snapshotKey,
    container.sandbox,
    encodeAnyMap(container.extensions),
    encodeMap(labels),
    container.createdAt,
    container.updatedAt,
  );
  const snapshot = snapshotter === "" ? [] : [tx.node(ns, `snapshot/${snapshotter}`, snapshotKey)];
  tx.setLinks(ns, node, labels, snapshot);
}
