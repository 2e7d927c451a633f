import { randomBytes } from "node:crypto";
import type { Activation, MountManager } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";
import { isReadOnly } from "#core/mount/options.ts";
import type { Context } from "#pkg/context.ts";
import { hasCode, wrap } from "#pkg/errors.ts";
import { nowNanos } from "#pkg/time.ts";

const deactivateMs = 10_000;

/**
 * Calls `use` with mounts that the kernel can make: where a list needs the manager, with what that
 * leaves of it. What the manager has made is undone whatever happens.
 */
export async function withActivated<T>(
  ctx: Context,
  { manager, what }: { readonly manager: MountManager | undefined; readonly what: string },
  mounts: readonly Mount[],
  use: (mounts: readonly Mount[]) => Promise<T>,
): Promise<T> {
  if (!manager) return use(mounts);
  const name = `${what}-${nowNanos()}-${randomBytes(3).toString("base64url")}`;
  let activation: Activation;
  try {
    activation = await manager.activate(ctx, name, mounts, { held: true });
  } catch (error) {
    const isPlain = mounts.every(({ type }) => !type.includes("/"));
    if (isPlain && hasCode(error, "not-implemented")) return use(mounts);
    throw wrap("failed to activate mounts", error);
  }
  try {
    return await use(leftOf(activation));
  } finally {
    const undo = ctx.detached({ timeoutMs: deactivateMs });
    await manager.deactivate(undo, name).catch((error: unknown) => {
      ctx.logger.warn("failed to deactivate mounts", { name, error });
    });
  }
}

/** Where the manager has made all of them, the last is what the others led to. */
function leftOf({ system, active }: Activation): readonly Mount[] {
  const last = active.at(-1);
  if (system.length > 0 || !last) return system;
  const options = isReadOnly(last) ? ["rbind", "ro"] : ["rbind"];
  return [{ type: "bind", source: last.mountPoint, target: "", options }];
}
