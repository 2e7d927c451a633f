import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import { containersService as makeService } from "#plugins/services/containers/service.ts";
import { EventPlugin, GrpcPlugin, MetadataPlugin, ServicePlugin } from "#plugins/types.ts";

export const containersService = definePlugin({
  type: ServicePlugin,
  id: "containers-service",
  requires: { events: one(EventPlugin), metadata: one(MetadataPlugin) },
  async init({ needs }) {
    return makeService(needs.metadata.containers);
  },
});

export const containersGrpc = definePlugin({
  type: GrpcPlugin,
  id: "containers",
  requires: { service: byId(ServicePlugin, "containers-service") },
  async init({ needs }) {
    return needs.service;
  },
});
