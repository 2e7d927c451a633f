import { dirname, join } from "node:path";
import { LocalIntrospection } from "#core/introspection/local.ts";
import { definePlugin, uri } from "#pkg/plugin/plugin.ts";
import { byId } from "#pkg/plugin/requirement.ts";
import { introspectionService as serviceOf } from "#plugins/services/introspection/service.ts";
import { GrpcPlugin, ServicePlugin, WarningPlugin } from "#plugins/types.ts";

export const introspectionGrpc = definePlugin({
  type: GrpcPlugin,
  id: "introspection",
  requires: { service: byId(ServicePlugin, "introspection-service") },
  async init({ needs }) {
    return needs.service;
  },
});

export const introspectionService = definePlugin({
  type: ServicePlugin,
  id: "introspection-service",
  requires: { deprecations: byId(WarningPlugin, "deprecations") },
  async init({ needs, plugins, rootDir }) {
    return serviceOf(
      new LocalIntrospection({
        plugins,
        // Upstream keeps it under the gRPC plugin, and a root's identity must not change with the
        // daemon.
        uuidPath: join(dirname(rootDir), uri(introspectionGrpc), "uuid"),
        deprecations: needs.deprecations,
      }),
    );
  },
});
