import * as v from "valibot";
import { Mounter } from "#core/mount/mounter.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { BlockingPool } from "#pkg/sys/blocking.ts";
import { ErofsHandler } from "#plugins/mount/erofs/erofs-handler.ts";
import type { RuntimeHost } from "#plugins/runtime/plugin.ts";
import { hostPlatform } from "#plugins/snapshotter/host-platform.ts";
import { MountHandlerPlugin } from "#plugins/types.ts";

export function erofsMounts({ sys }: Pick<RuntimeHost, "sys">) {
  return definePlugin({
    type: MountHandlerPlugin,
    id: "erofs",
    requires: {},
    config: pluginConfig(v.object({}), {}),
    async init({ ctx, platforms, resources, stateDir }) {
      platforms.push(hostPlatform());
      const blocking = resources.use(new BlockingPool({ sys }));
      return new ErofsHandler(sys, await Mounter.open(ctx, { sys, tempDir: stateDir, blocking }));
    },
  });
}
