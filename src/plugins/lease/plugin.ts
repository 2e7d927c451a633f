import { definePlugin } from "#pkg/plugin/plugin.ts";
import { one } from "#pkg/plugin/requirement.ts";
import { ScheduledLeaseManager } from "#plugins/lease/lease-manager.ts";
import { GcPlugin, LeasePlugin, MetadataPlugin } from "#plugins/types.ts";

export const leaseManager = definePlugin({
  type: LeasePlugin,
  id: "manager",
  requires: { metadata: one(MetadataPlugin), scheduler: one(GcPlugin) },
  async init({ needs }) {
    return new ScheduledLeaseManager(needs.metadata.leases, needs.scheduler);
  },
});
