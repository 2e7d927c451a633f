import { chmod, mkdir } from "node:fs/promises";
import { loadShims } from "#core/runtime/shim-loader.ts";
import { sandboxPlace } from "#core/sandbox/sandbox-place.ts";
import { ShimSandboxController } from "#core/sandbox/shim-controller.ts";
import { definePlugin } from "#pkg/plugin/plugin.ts";
import { one } from "#pkg/plugin/requirement.ts";
import {
  EventPlugin,
  MetadataPlugin,
  SandboxControllerPlugin,
  SandboxStorePlugin,
  ShimPlugin,
} from "#plugins/types.ts";

export const localSandboxStore = definePlugin({
  type: SandboxStorePlugin,
  id: "local",
  requires: { metadata: one(MetadataPlugin) },
  async init({ needs }) {
    return needs.metadata.sandboxes;
  },
});

export const shimSandboxController = definePlugin({
  type: SandboxControllerPlugin,
  id: "shim",
  requires: { shims: one(ShimPlugin), events: one(EventPlugin) },
  async init({ ctx, needs, rootDir, stateDir }) {
    const { shims } = needs;
    for (const dir of [rootDir, stateDir]) {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      // Older releases made it readable.
      await chmod(dir, 0o700);
    }
    const roots = { root: rootDir, state: stateDir };
    await loadShims(ctx, shims, sandboxPlace(shims, roots));
    return new ShimSandboxController(shims, roots);
  },
});
