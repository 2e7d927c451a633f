import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId, one } from "#pkg/plugin/requirement.ts";
import { snapshotsServiceOf } from "#plugins/services/snapshots/service.ts";
import { GrpcPlugin, MetadataPlugin, ServicePlugin } from "#plugins/types.ts";

export const snapshotsService = definePlugin({
  type: ServicePlugin,
  id: "snapshots-service",
  requires: { metadata: one(MetadataPlugin) },
  async init({ needs }) {
    return snapshotsServiceOf(needs.metadata.snapshotters);
  },
});

export const snapshotsGrpc = definePlugin({
  type: GrpcPlugin,
  id: "snapshots",
  requires: { snapshots: byId(ServicePlugin, "snapshots-service") },
  async init({ needs }) {
    return needs.snapshots;
  },
});
