import { mkdir } from "node:fs/promises";
import type { UnpackTarget } from "#core/unpack/unpack.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { bundleUnmount } from "#core/runtime/bundle-mounts.ts";
import { assertKind } from "#cri/config.ts";
import { PodSandboxController } from "#cri/podsandbox/controller.ts";
import { sandboxHost } from "#cri/podsandbox/host.ts";
import type { PodSandboxParts } from "#cri/podsandbox/parts.ts";
import { recoverSandboxes } from "#cri/podsandbox/recover.ts";
import { SandboxFiles } from "#cri/podsandbox/sandbox-files.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all, byId, one } from "#pkg/plugin/requirement.ts";
import { formatPlatform, hostPlatform } from "#pkg/platform.ts";
import { BlockingPool } from "#pkg/sys/blocking.ts";
import type { RuntimeHost } from "#plugins/runtime/plugin.ts";
import { unpackTargets } from "#plugins/transfer/unpack-targets.ts";
import {
  CriServicePlugin,
  DiffPlugin,
  LeasePlugin,
  MetadataPlugin,
  PodSandboxPlugin,
  RuntimePlugin,
  SnapshotPlugin,
  TransferPlugin,
} from "#plugins/types.ts";

const cleanupTimeout = "io.containerd.timeout.cri.defercleanup";

/** Waits for what a daemon before this one has left before anybody is served. */
export function podSandboxController({ sys }: Pick<RuntimeHost, "sys">) {
  return definePlugin({
    type: PodSandboxPlugin,
    id: "podsandbox",
    requires: {
      images: byId(CriServicePlugin, "images"),
      runtime: byId(CriServicePlugin, "runtime"),
      metadata: one(MetadataPlugin),
      leases: one(LeasePlugin),
      snapshotters: all(SnapshotPlugin),
      differs: all(DiffPlugin),
      transfer: one(TransferPlugin),
      tasks: byId(RuntimePlugin, "task"),
    },
    timeouts: { [cleanupTimeout]: 60_000 },
    async init({ ctx, needs, plugins, stateDir, resources, failpoints, timeoutMs }) {
      const { images: imagesConfig, runtime: runtimeConfig, metadata } = needs;
      assertKind(imagesConfig, "images");
      assertKind(runtimeConfig, "runtime");
      const { namespaces, containers, sandboxes, snapshotters, content, images } = metadata;
      await mkdir(stateDir, { recursive: true, mode: 0o700 });
      const blocking = resources.use(new BlockingPool({ sys }));
      const unpackTarget = (snapshotter: string): UnpackTarget | undefined => {
        const platform = formatPlatform(hostPlatform());
        const own = { differ: "", config_type: "", layer_types: [], optional: true };
        const { differs } = needs;
        const configs = [{ ...own, platform, snapshotter }];
        return unpackTargets({ configs, isStrict: false, snapshotters, differs, plugins })[0];
      };
      const parts: PodSandboxParts = {
        lifetime: ctx,
        namespaces,
        containers,
        sandboxes,
        leases: needs.leases,
        snapshotters,
        images: {
          content,
          images,
          transfer: needs.transfer,
          unpackTarget,
          locks: new KeyedMutex(),
          unpackLimiter: undefined,
        },
        runtime: needs.tasks,
        files: new SandboxFiles({ roots: runtimeConfig.roots, sys, unmount: bundleUnmount(sys) }),
        mounter: await Mounter.open(ctx, { sys, tempDir: stateDir, blocking }),
        sys,
        host: sandboxHost(),
        runtimeConfig,
        imagesConfig,
        failpoints,
        cleanupTimeoutMs: timeoutMs(cleanupTimeout),
      };
      const controller = new PodSandboxController(parts);
      await recoverSandboxes(ctx, parts, controller);
      return controller;
    },
  });
}
