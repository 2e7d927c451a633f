import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import { contentService as makeService } from "#plugins/services/content/service.ts";
import { GrpcPlugin, MetadataPlugin, ServicePlugin } from "#plugins/types.ts";

export const contentService = definePlugin({
  type: ServicePlugin,
  id: "content-service",
  requires: { metadata: one(MetadataPlugin) },
  async init({ needs }) {
    return makeService(needs.metadata.content);
  },
});

export const contentGrpc = definePlugin({
  type: GrpcPlugin,
  id: "content",
  requires: { service: byId(ServicePlugin, "content-service") },
  async init({ needs }) {
    return needs.service;
  },
});
