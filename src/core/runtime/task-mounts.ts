import type { MountClaims, MountManager } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import { mountClaimsOf } from "#core/runtime/runtime-info-convert.ts";
import { runcRuntime } from "#core/runtime/shim-binary.ts";
import type { Context } from "#pkg/context.ts";
import { hasCode, isNotFound, wrap } from "#pkg/errors.ts";

/** The annotation by which runtimes claimed mounts before shims could; what it says of them. */
const allowMounts = "containerd.io/runtime-allow-mounts";
const neverAsked: readonly string[] = [runcRuntime, "io.containerd.runhcs.v1"];

export interface TaskMountsOptions {
  readonly manager: MountManager;
  /** The annotations of a runtime's `-info`. */
  readonly annotations: (
    ctx: Context,
    runtime: string,
  ) => Promise<Readonly<Record<string, string>>>;
}

export interface TaskRootfs {
  /** What the shim is left to mount. */
  readonly rootfs: readonly Mount[];
  /** Whether the task's failure undoes the activation. */
  readonly isOwn: boolean;
}

/** The mounts of tasks that neither kernel nor shim can make: activated under the task's id. */
export class TaskMounts {
  readonly #options: TaskMountsOptions;
  /** What runtimes were found to claim, by their names. */
  readonly #known = new Map<string, MountClaims | undefined>();

  constructor(options: TaskMountsOptions) {
    this.#options = options;
  }

  async activate(
    ctx: Context,
    task: { readonly id: string; readonly runtime: string; readonly bootstrap: BootstrapResult },
    rootfs: readonly Mount[],
  ): Promise<TaskRootfs> {
    const { manager } = this.#options;
    const claims = await this.#claimsOf(ctx, task);
    // As long as the container is there: a task that starts again finds its mounts.
    const labels = { "containerd.io/gc.bref.container": task.id };
    try {
      const options = { labels, ...(claims && { claims }) };
      const { system } = await manager.activate(ctx, task.id, rootfs, options);
      return { rootfs: system, isOwn: true };
    } catch (error) {
      if (hasCode(error, "not-implemented")) return { rootfs, isOwn: false };
      if (!hasCode(error, "already-exists")) throw error;
    }
    try {
      return { rootfs: (await manager.info(ctx, task.id)).system, isOwn: false };
    } catch (error) {
      throw wrap("failed to get info on already active mount", error);
    }
  }

  /** After the task: what stays mounted is collected with its container. */
  async deactivate(ctx: Context, id: string): Promise<void> {
    try {
      await this.#options.manager.deactivate(ctx, id);
    } catch (error) {
      if (!isNotFound(error)) ctx.logger.error("failed to deactivate mounts", { task: id, error });
    }
  }

  async #claimsOf(
    ctx: Context,
    { runtime, bootstrap }: { readonly runtime: string; readonly bootstrap: BootstrapResult },
  ): Promise<MountClaims | undefined> {
    try {
      const claims = mountClaimsOf(bootstrap);
      if (claims) return claims;
    } catch (error) {
      ctx.logger.error("failed to read shim mount capabilities, assuming none", { error });
      return undefined;
    }
    if (neverAsked.includes(runtime)) return undefined;
    if (!this.#known.has(runtime)) {
      try {
        const annotations = await this.#options.annotations(ctx, runtime);
        this.#known.set(runtime, parseAllowed(annotations[allowMounts]));
      } catch (error) {
        ctx.logger.error("failed to query deprecated runtime-allow-mounts annotation", {
          runtime,
          error,
        });
      }
    }
    return this.#known.get(runtime);
  }
}

/** `erofs,mkfs/*`: types, and transforms with a star. */
function parseAllowed(text: string | undefined): MountClaims | undefined {
  if (text === undefined) return undefined;
  const entries = text.split(",").filter((entry) => entry !== "");
  const isTransform = (entry: string): boolean => entry.endsWith("/*");
  return {
    types: entries.filter((entry) => !isTransform(entry)),
    transforms: entries.filter(isTransform).map((entry) => entry.slice(0, -"/*".length)),
  };
}
