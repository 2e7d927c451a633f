import { definePlugin } from "#pkg/plugin/plugin.ts";
import { one } from "#pkg/plugin/requirement.ts";
import { mountsService } from "#plugins/services/mounts/service.ts";
import { GrpcPlugin, MountManagerPlugin } from "#plugins/types.ts";

export const mountsGrpc = definePlugin({
  type: GrpcPlugin,
  id: "mounts",
  requires: { manager: one(MountManagerPlugin) },
  async init({ needs }) {
    return mountsService(needs.manager);
  },
});
