import { definePlugin } from "#pkg/plugin/plugin.ts";
import { versionService } from "#plugins/services/version/service.ts";
import { GrpcPlugin } from "#plugins/types.ts";

export function version(build: { version: string; revision: string }) {
  return definePlugin({
    type: GrpcPlugin,
    id: "version",
    requires: {},
    async init() {
      return versionService(build);
    },
  });
}
