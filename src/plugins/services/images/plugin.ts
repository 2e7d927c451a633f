import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import { imagesService as makeService } from "#plugins/services/images/service.ts";
import { GcPlugin, GrpcPlugin, MetadataPlugin, ServicePlugin } from "#plugins/types.ts";

export const imagesService = definePlugin({
  type: ServicePlugin,
  id: "images-service",
  requires: { metadata: one(MetadataPlugin), collector: one(GcPlugin) },
  async init({ needs }) {
    return makeService(needs.metadata.images, needs.collector);
  },
});

export const imagesGrpc = definePlugin({
  type: GrpcPlugin,
  id: "images",
  requires: { service: byId(ServicePlugin, "images-service") },
  async init({ needs }) {
    return needs.service;
  },
});
