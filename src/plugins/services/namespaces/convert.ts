import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { NamespaceSchema } from "#api/services/namespaces/v1/namespace_pb.ts";
import type { NamespaceRecord } from "#core/namespaces/namespaces.ts";
import { invalidArgument } from "#pkg/errors.ts";

export function namespaceToWire(record: NamespaceRecord): MessageInitShape<typeof NamespaceSchema> {
  return { name: record.name, labels: { ...record.labels } };
}

export function namespaceFromWire(
  namespace: MessageShape<typeof NamespaceSchema> | undefined,
): NamespaceRecord {
  if (!namespace) throw invalidArgument("namespace is required");
  return { name: namespace.name, labels: namespace.labels };
}
