import type { MountClaims, MountHandler, MountTransform } from "#core/mount/manager.ts";
import type { Mount } from "#core/mount/mount.ts";

interface PlannedMount {
  /** In the order they are applied, each with the type that is left after it. */
  readonly transforms: readonly { readonly apply: MountTransform; readonly type: string }[];
  /** How many of them are to be done here when the mount itself is left to the caller. */
  readonly applyCount: number;
}

export interface ActivationPlan {
  /** Those before this one are made here; undefined where there is nothing to do at all. */
  readonly firstSystemMount: number | undefined;
  readonly mounts: readonly PlannedMount[];
}

const noClaims: MountClaims = { types: [], transforms: [] };

/**
 * What of a list has to be done here.
 *
 * Each transform needs what the one before it made, so claimed ones can be left only at the end of
 * a chain. Prefixes that are no transform are part of the type.
 */
export function planActivation(
  mounts: readonly Mount[],
  options: {
    readonly claims?: MountClaims | undefined;
    readonly temporary: boolean;
    readonly transforms: ReadonlyMap<string, MountTransform>;
    readonly handlers: ReadonlyMap<string, MountHandler>;
  },
): ActivationPlan {
  const { claims = noClaims, temporary, transforms, handlers } = options;
  let firstSystemMount: number | undefined;
  const planned = mounts.map((mount, index): PlannedMount => {
    const chain: { apply: MountTransform; type: string }[] = [];
    let applyCount = 0;
    let { type } = mount;
    const isWholeClaimed = claims.types.includes(mount.type);
    for (let slash = type.indexOf("/"); slash >= 0; slash = type.indexOf("/")) {
      const name = type.slice(0, slash);
      const apply = transforms.get(name);
      if (!apply) break;
      type = type.slice(slash + 1);
      chain.push({ apply, type });
      if (isWholeClaimed || claims.transforms.includes(name)) continue;
      applyCount = chain.length;
      firstSystemMount = index;
    }
    const isHandled = handlers.has(type) && !claims.types.includes(type);
    if (isHandled || temporary) firstSystemMount = index + 1;
    return { transforms: chain, applyCount };
  });
  return { firstSystemMount, mounts: planned };
}
