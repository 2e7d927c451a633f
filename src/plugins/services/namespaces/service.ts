import { Namespaces } from "#api/services/namespaces/v1/namespace_pb.ts";
import type { NamespaceStore } from "#core/namespaces/namespaces.ts";
import { CodedError } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { namespaceFromWire, namespaceToWire } from "#plugins/services/namespaces/convert.ts";

export function namespacesService(namespaces: NamespaceStore): Service {
  return serve(Namespaces, {
    async get(ctx, { name }) {
      return { namespace: namespaceToWire({ name, labels: await namespaces.labels(ctx, name) }) };
    },
    async list(ctx) {
      return { namespaces: (await namespaces.list(ctx)).map(namespaceToWire) };
    },
    async create(ctx, { namespace }) {
      const { name, labels } = namespaceFromWire(namespace);
      await namespaces.create(ctx, name, labels);
      return { namespace: namespaceToWire({ name, labels }) };
    },
    /** Answers an empty message, as upstream does. */
    async update(ctx, { namespace, updateMask }) {
      const record = namespaceFromWire(namespace);
      const paths = updateMask?.paths ?? [];
      await namespaces.update(ctx, record, paths.length === 0 ? undefined : paths.map(labelKey));
      return {};
    },
    async delete(ctx, { name }) {
      await namespaces.delete(ctx, name);
      return {};
    },
  });
}

function labelKey(path: string): string {
  if (path.startsWith("labels.")) return path.slice("labels.".length);
  throw new CodedError("invalid-argument", `cannot update ${JSON.stringify(path)} field`);
}
