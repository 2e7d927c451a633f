import * as v from "valibot";
import { isInUserNamespace } from "#core/mount/user-namespace.ts";
import type { SharedTreeWorkers } from "#pkg/archive/shared-tree-workers.ts";
import { messageOf } from "#pkg/errors.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin, SkipPlugin } from "#pkg/plugin/plugin.ts";
import { linux } from "#pkg/sys/linux.ts";
import { hostPlatform } from "#plugins/snapshotter/host-platform.ts";
import {
  canMapIds,
  completeMountOptions,
  probeOverlay,
  undoProbes,
} from "#plugins/snapshotter/overlayfs/kernel.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";
import { SnapshotPlugin } from "#plugins/types.ts";

const schema = v.object({
  root_path: v.string(),
  upperdir_label: v.boolean(),
  sync_remove: v.boolean(),
  slow_chown: v.boolean(),
  mount_options: v.array(v.string()),
});

export function overlayfs(trees: SharedTreeWorkers) {
  return definePlugin({
    type: SnapshotPlugin,
    id: "overlayfs",
    requires: {},
    config: pluginConfig(schema, {
      root_path: "",
      upperdir_label: false,
      sync_remove: false,
      slow_chown: false,
      mount_options: [],
    }),
    async init({ ctx, config, rootDir, platforms, capabilities, exports, resources, failpoints }) {
      platforms.push(hostPlatform());
      const root = config.root_path === "" ? rootDir : config.root_path;
      exports.set("root", root);
      const inUserNamespace = await isInUserNamespace();
      const mountOptions = await completeMountOptions(config.mount_options, inUserNamespace);
      await probeOverlay(ctx, linux, root, mountOptions).catch((error: unknown) => {
        throw new SkipPlugin(`overlayfs cannot be used in ${root}: ${messageOf(error)}`);
      });
      const remapIds = await canMapIds(ctx, linux, root, mountOptions);
      if (remapIds) capabilities.push("remap-ids");
      // Without these, clients copy an image's tree for each mapping, where that is allowed.
      if (!config.slow_chown) capabilities.push("only-remap-ids");
      if (!inUserNamespace) capabilities.push("rebase");
      const snapshotter = await OverlaySnapshotter.open(ctx, {
        root,
        workers: resources.use(trees.acquire()).workers,
        asyncRemove: !config.sync_remove,
        upperdirLabel: config.upperdir_label,
        mountOptions,
        remapIds,
        failpoints,
      });
      // Now that its records are locked no other daemon is about to probe there.
      await undoProbes(ctx, linux, root);
      return snapshotter;
    },
  });
}
