import type { ActiveMount, MountTransform } from "#core/mount/manager.ts";
import { invalidArgument } from "#pkg/errors.ts";

const action = /\{\{(?:- )?\s*(\w+)((?:\s+[+-]?\d+)*)\s*(?: -)?\}\}/g;

/**
 * Fills in what stands between double braces in source, target and options: `source N`, `target N`
 * and `mount N` of the Nth mount before this one, and `overlay N M`, the mount points from N to M,
 * up or down, as a list of lower directories.
 */
export const format: MountTransform = async (_ctx, mount, before) => ({
  ...mount,
  source: formatted(mount.source, before),
  target: formatted(mount.target, before),
  options: mount.options.map((option) => formatted(option, before)),
});

function formatted(text: string, before: readonly ActiveMount[]): string {
  if (!text.includes("{{")) return text;
  const result = text.replace(action, (_, name: string, numbers: string) =>
    valueOf(name, (numbers.match(/[+-]?\d+/g) ?? []).map(Number), before),
  );
  // A mount point has no braces: what is left was never understood.
  if (result.includes("{{")) throw invalidArgument(`mount format ${JSON.stringify(text)}`);
  return result;
}

function valueOf(name: string, numbers: readonly number[], before: readonly ActiveMount[]): string {
  const [first, second] = numbers;
  if (name === "overlay" && first !== undefined && second !== undefined && numbers.length === 2) {
    return range(first, second, before)
      .map(({ mountPoint }) => mountPoint)
      .join(":");
  }
  if (first !== undefined && numbers.length === 1) {
    const active = before[first];
    if (!active) {
      throw invalidArgument(`index out of bounds: ${first}, has ${before.length} active mounts`);
    }
    if (name === "source") return active.source;
    if (name === "target") return active.target;
    if (name === "mount") return active.mountPoint;
  }
  throw invalidArgument(`mount format ${JSON.stringify([name, ...numbers].join(" "))}`);
}

function range(
  first: number,
  last: number,
  before: readonly ActiveMount[],
): readonly ActiveMount[] {
  const low = Math.min(first, last);
  const high = Math.max(first, last);
  if (low < 0 || high >= before.length) {
    throw invalidArgument(`invalid range: ${first}-${last}, has ${before.length} active mounts`);
  }
  const mounts = before.slice(low, high + 1);
  return first > last ? mounts.toReversed() : mounts;
}
