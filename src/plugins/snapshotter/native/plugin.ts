import * as v from "valibot";
import type { SharedTreeWorkers } from "#pkg/archive/shared-tree-workers.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { hostPlatform } from "#plugins/snapshotter/host-platform.ts";
import { NativeSnapshotter } from "#plugins/snapshotter/native/native-snapshotter.ts";
import { SnapshotPlugin } from "#plugins/types.ts";

export function native(trees: SharedTreeWorkers) {
  return definePlugin({
    type: SnapshotPlugin,
    id: "native",
    requires: {},
    config: pluginConfig(v.object({ root_path: v.string() }), { root_path: "" }),
    async init({ ctx, config, rootDir, platforms, exports, resources, failpoints }) {
      platforms.push(hostPlatform());
      const root = config.root_path === "" ? rootDir : config.root_path;
      exports.set("root", root);
      const { workers } = resources.use(trees.acquire());
      return NativeSnapshotter.open(ctx, { root, workers, failpoints });
    },
  });
}
