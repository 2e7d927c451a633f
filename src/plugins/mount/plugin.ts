import { mkdir as makeDirectory } from "node:fs/promises";
import { dirname, join } from "node:path";
import { LoopbackHandler } from "#core/mount/loopback-handler.ts";
import { AllowedRoots } from "#core/mount/manager/allowed-roots.ts";
import { format } from "#core/mount/manager/format.ts";
import { LocalMountManager } from "#core/mount/manager/local-manager.ts";
import { mkdir } from "#core/mount/manager/mkdir.ts";
import { mkfs } from "#core/mount/manager/mkfs.ts";
import { mountPrograms } from "#core/mount/mount-program.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { SpawnedPrograms } from "#core/runtime/spawned-programs.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { all, one } from "#pkg/plugin/requirement.ts";
import { BlockingPool } from "#pkg/sys/blocking.ts";
import type { RuntimeHost } from "#plugins/runtime/plugin.ts";
import { MetadataPlugin, MountHandlerPlugin, MountManagerPlugin } from "#plugins/types.ts";

/** Upstream's name; what it keeps is beside the mounts. */
export function mountManager(host: Pick<RuntimeHost, "sys" | "spawn" | "reaper" | "env">) {
  return definePlugin({
    type: MountManagerPlugin,
    id: "bolt",
    requires: { metadata: one(MetadataPlugin), handlers: all(MountHandlerPlugin) },
    async init({ ctx, needs, rootDir, stateDir, resources }) {
      const { sys } = host;
      const targets = join(stateDir, "t");
      await makeDirectory(targets, { recursive: true, mode: 0o700 });
      // Snapshots are below the daemon's root: these are where transforms may make things.
      const roots = new AllowedRoots(sys, [targets, dirname(rootDir)]);
      const blocking = resources.use(new BlockingPool({ sys }));
      const run = mountPrograms(new SpawnedPrograms(host), host.env);
      const manager = await LocalMountManager.open({
        ctx,
        targets,
        mounter: await Mounter.open(ctx, { sys, tempDir: stateDir, blocking, run }),
        // Of no plugin: upstream lists none.
        handlers: new Map([["loop", new LoopbackHandler(sys)], ...needs.handlers]),
        transforms: new Map([
          ["format", format],
          ["mkdir", mkdir(sys, roots)],
          ["mkfs", mkfs(roots, run)],
        ]),
      });
      resources.use(needs.metadata.registerResources(manager));
      return manager;
    },
  });
}
