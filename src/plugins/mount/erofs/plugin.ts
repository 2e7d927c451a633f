import { Mounter } from "#core/mount/mounter.ts";
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
    async init({ platforms, resources, stateDir }) {
      platforms.push(hostPlatform());
      const blocking = resources.use(new BlockingPool({ sys }));
      return new ErofsHandler(sys, new Mounter({ sys, tempDir: stateDir, blocking }));
    },
  });
}
