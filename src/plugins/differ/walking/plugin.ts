import { mkdir } from "node:fs/promises";
import type { ProcessorHost } from "#core/diff/processor-chain.ts";
import type { StreamProcessor } from "#core/diff/stream-processors.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { isInUserNamespace } from "#core/mount/user-namespace.ts";
import type { SharedTreeWorkers } from "#pkg/archive/shared-tree-workers.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { one, optional } from "#pkg/plugin/requirement.ts";
import { BlockingPool } from "#pkg/sys/blocking.ts";
import { linux } from "#pkg/sys/linux.ts";
import { WalkingDiffer } from "#plugins/differ/walking/walking-differ.ts";
import { hostPlatform } from "#plugins/snapshotter/host-platform.ts";
import { DiffPlugin, MetadataPlugin, MountManagerPlugin } from "#plugins/types.ts";

export function walking(
  host: ProcessorHost,
  processors: readonly StreamProcessor[],
  trees: SharedTreeWorkers,
) {
  return definePlugin({
    type: DiffPlugin,
    id: "walking",
    requires: { metadata: one(MetadataPlugin), mounts: optional(MountManagerPlugin) },
    async init({ ctx, needs, platforms, resources, stateDir }) {
      platforms.push(hostPlatform());
      await mkdir(stateDir, { recursive: true, mode: 0o700 });
      return new WalkingDiffer({
        content: needs.metadata.content,
        mounter: await Mounter.open(ctx, {
          sys: linux,
          tempDir: stateDir,
          blocking: resources.use(new BlockingPool({ sys: linux })),
        }),
        mounts: needs.mounts,
        workers: resources.use(trees.acquire()).workers,
        inUserNamespace: await isInUserNamespace(),
        processors: { all: processors, host },
      });
    },
  });
}
