import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import { namespacesService as makeService } from "#plugins/services/namespaces/service.ts";
import { EventPlugin, GrpcPlugin, MetadataPlugin, ServicePlugin } from "#plugins/types.ts";

export const namespacesService = definePlugin({
  type: ServicePlugin,
  id: "namespaces-service",
  requires: { events: one(EventPlugin), metadata: one(MetadataPlugin) },
  async init({ needs }) {
    return makeService(needs.metadata.namespaces);
  },
});

export const namespacesGrpc = definePlugin({
  type: GrpcPlugin,
  id: "namespaces",
  requires: { service: byId(ServicePlugin, "namespaces-service") },
  async init({ needs }) {
    return needs.service;
  },
});
