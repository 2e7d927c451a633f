import type { Container } from "#core/containers/containers.ts";
import type { Transaction } from "#core/metadata/transaction.ts";
import type { Any } from "#pkg/any.ts";
import {
  bigint,
  bytes,
  encodeMap,
  optionalText,
  type Row,
  stringMap,
  text,
} from "#pkg/sqlite/row.ts";

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
    extensions: decodeExtensions(stringMap(row, "extensions")),
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
    encodeMap(encodeExtensions(container.extensions)),
    encodeMap(labels),
    container.createdAt,
    container.updatedAt,
  );
  const snapshot = snapshotter === "" ? [] : [tx.node(ns, `snapshot/${snapshotter}`, snapshotKey)];
  tx.setLinks(ns, node, labels, snapshot);
}

function decodeAny(row: Row, typeColumn: string, valueColumn: string): Any | undefined {
  const typeUrl = optionalText(row, typeColumn);
  return typeUrl === undefined ? undefined : { typeUrl, value: bytes(row, valueColumn) };
}

/** By key: the type url, a space, the value in base64. */
function encodeExtensions(extensions: Container["extensions"]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(extensions).map(([key, { typeUrl, value }]) => [
      key,
      `${typeUrl} ${Buffer.from(value).toString("base64")}`,
    ]),
  );
}

function decodeExtensions(encoded: Readonly<Record<string, string>>): Container["extensions"] {
  return Object.fromEntries(
    Object.entries(encoded).map(([key, text]) => {
      // Base64 has no space, a type url may.
      const space = text.lastIndexOf(" ");
      const value = new Uint8Array(Buffer.from(text.slice(space + 1), "base64"));
      return [key, { typeUrl: text.slice(0, space), value }];
    }),
  );
}
