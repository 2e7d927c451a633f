import { definePlugin } from "#pkg/plugin/plugin.ts";
import { healthService } from "#plugins/services/health/service.ts";
import { GrpcPlugin } from "#plugins/types.ts";

export const healthcheck = definePlugin({
  type: GrpcPlugin,
  id: "healthcheck",
  requires: {},
  async init() {
    return healthService();
  },
});
