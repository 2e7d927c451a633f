import type { ActiveMount, MountTransform } from "#core/mount/manager.ts";
import { invalidArgument } from "#pkg/errors.ts";

const action = /\{\{(?:- )?\s*(\w+)((?:\s+[+-]?\d+)*)\s*(?: -)?\}\}/g;

/** A whole request has 4 MiB at most; each of its few bytes may stand for all mounts before. */
const expandedBytesMax = 1 << 20;
const textShownMax = 200;

/**
 * Fills in what stands between double braces in source, target and options: `source N`, `target N`
 * and `mount N` of the Nth mount before this one, and `overlay N M`, the mount points from N to M,
 * up or down, as a list of lower directories.
 *
 * Throws `invalid-argument` where what is filled into one mount is larger than 1 MiB.
 */
export const format: MountTransform = async (_ctx, mount, before) => {
  let roomBytes = expandedBytesMax;
  const fillIn = (name: string, numbers: readonly number[]): string => {
    const value = valueOf(name, numbers, before);
    roomBytes -= Buffer.byteLength(value);
    if (roomBytes >= 0) return value;
    throw invalidArgument(`mount format expands to more than ${expandedBytesMax} bytes`);
  };
  return {
    ...mount,
    source: formatted(mount.source, fillIn),
    target: formatted(mount.target, fillIn),
    options: mount.options.map((option) => formatted(option, fillIn)),
  };
};

function formatted(
  text: string,
  fillIn: (name: string, numbers: readonly number[]) => string,
): string {
  if (!text.includes("{{")) return text;
  const result = text.replace(action, (_, name: string, numbers: string) =>
    fillIn(name, (numbers.match(/[+-]?\d+/g) ?? []).map(Number)),
  );
  // A mount point has no braces: what is left was never understood.
  if (result.includes("{{"))
    throw invalidArgument(`mount format ${JSON.stringify(text.slice(0, textShownMax))}`);
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
  const text = [name, ...numbers].join(" ").slice(0, textShownMax);
  throw invalidArgument(`mount format ${JSON.stringify(text)}`);
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
