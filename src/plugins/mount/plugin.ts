import { mkdir as makeDirectory } from "node:fs/promises";
import { dirname, join } from "node:path";
import { AllowedRoots } from "#core/mount/manager/allowed-roots.ts";
import { format } from "#core/mount/manager/format.ts";
import { LocalMountManager } from "#core/mount/manager/local-manager.ts";
import { mkdir } from "#core/mount/manager/mkdir.ts";
import { mkfs, type RunProgram } from "#core/mount/manager/mkfs.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { findProgram } from "#core/runtime/program.ts";
import { SpawnedPrograms } from "#core/runtime/spawned-programs.ts";
import { CodedError } from "#pkg/errors.ts";
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
      const manager = await LocalMountManager.open({
        ctx,
        targets,
        mounter: new Mounter({ sys, tempDir: stateDir, blocking }),
        handlers: needs.handlers,
        transforms: new Map([
          ["format", format],
          ["mkdir", mkdir(sys, roots)],
          ["mkfs", mkfs(roots, runner(host))],
        ]),
      });
      resources.use(needs.metadata.registerResources(manager));
      return manager;
    },
  });
}

function runner(host: Pick<RuntimeHost, "sys" | "spawn" | "reaper" | "env">): RunProgram {
  return async (ctx, name, args) => {
    const path = await findProgram(name, host.env["PATH"] ?? "");
    if (path === undefined) throw new CodedError("unknown", `${name} is not on PATH`);
    const { failure, stdout } = await new SpawnedPrograms(host).run(ctx, {
      path,
      args,
      env: host.env,
      cwd: "/",
      stdin: new Uint8Array(),
      stderr: "with-stdout",
    });
    ctx.throwIfEnded();
    return { failure, output: Buffer.from(stdout).toString("utf8").trim().slice(0, 4096) };
  };
}
