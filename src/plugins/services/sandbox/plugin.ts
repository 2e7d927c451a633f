import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all, byId, one } from "#pkg/plugin/requirement.ts";
import { sandboxControllerService } from "#plugins/services/sandbox/controller-service.ts";
import { sandboxStoreService } from "#plugins/services/sandbox/store-service.ts";
import {
  EventPlugin,
  GrpcPlugin,
  PodSandboxPlugin,
  SandboxControllerPlugin,
  SandboxStorePlugin,
} from "#plugins/types.ts";

export const sandboxesGrpc = definePlugin({
  type: GrpcPlugin,
  id: "sandboxes",
  requires: { sandboxes: byId(SandboxStorePlugin, "local") },
  async init({ needs }) {
    return sandboxStoreService(needs.sandboxes);
  },
});

export const sandboxControllersGrpc = definePlugin({
  type: GrpcPlugin,
  id: "sandbox-controllers",
  requires: {
    pods: all(PodSandboxPlugin),
    controllers: all(SandboxControllerPlugin),
    events: one(EventPlugin),
  },
  async init({ needs }) {
    const controllers = new Map([...needs.pods, ...needs.controllers]);
    return sandboxControllerService(controllers, needs.events);
  },
});
