import type { BundleRoots } from "#core/runtime/bundle.ts";
import { foundOrUndefined, type ShimPlace } from "#core/runtime/shim-loader.ts";
import type { ShimManager } from "#core/runtime/shim-manager.ts";
import { ShimSandboxProxy } from "#core/sandbox/runtime-proxy.ts";

/**
 * Bundles of sandboxes, for loading them. One on record is kept: its shim may have no process yet,
 * or none that it shows.
 */
export function sandboxPlace(manager: ShimManager, roots: BundleRoots): ShimPlace {
  const { sandboxes } = manager.options;
  return {
    roots,
    findRuntime: async (ctx, id) => {
      const sandbox = await foundOrUndefined(sandboxes.get(ctx, id));
      return sandbox?.runtime.name;
    },
    isInUse: async (ctx, record) => {
      const pids = record.link.ask(ctx, (tasks) => tasks.pids(ctx, record.id));
      return ((await foundOrUndefined(pids)) ?? []).length > 0;
    },
    isKept: ({ isOnRecord, isInUse }) => isOnRecord || isInUse,
    end: async (ctx, { id, link }) => {
      if (link.services) await new ShimSandboxProxy(link.services, id).shutdown(ctx);
    },
    // Supervisors are those of tasks, which may not be loaded yet.
    endForgotten: async () => {},
  };
}
