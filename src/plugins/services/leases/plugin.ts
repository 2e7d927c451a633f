import { definePlugin } from "#pkg/plugin/plugin.ts";
import { byId } from "#pkg/plugin/requirement.ts";
import { leasesService } from "#plugins/services/leases/service.ts";
import { GrpcPlugin, LeasePlugin } from "#plugins/types.ts";

export const leasesGrpc = definePlugin({
  type: GrpcPlugin,
  id: "leases",
  requires: { leases: byId(LeasePlugin, "manager") },
  async init({ needs }) {
    return leasesService(needs.leases);
  },
});
