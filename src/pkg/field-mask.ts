import { invalidArgument } from "#pkg/errors.ts";
import type { Labels } from "#pkg/label.ts";

/** One path of a field mask: a field, or one key of a field that is a map (`labels.a.b`). */
export interface FieldPath {
  readonly field: string;
  readonly key: string | undefined;
}

/** Splits paths whose first part is one of `maps`; the rest is the key, dots and all. */
export function parseFieldPath(path: string, maps: readonly string[]): FieldPath {
  const dot = path.indexOf(".");
  const field = path.slice(0, dot);
  if (dot < 0 || !maps.includes(field)) return { field: path, key: undefined };
  return { field, key: path.slice(dot + 1) };
}

/**
 * Paths by their fields, in the order they first come: each field of the mask is then looked at once, however many
 * of its keys are named. Undefined stands for the whole of a field.
 */
export function keysByField(
  paths: readonly string[],
  maps: readonly string[],
): ReadonlyMap<string, readonly (string | undefined)[]> {
  const fields = new Map<string, (string | undefined)[]>();
  for (const path of paths) {
    const { field, key } = parseFieldPath(path, maps);
    const keys = fields.get(field);
    if (keys) keys.push(key);
    else fields.set(field, [key]);
  }
  return fields;
}

/**
 * `current` with the masked parts of `given`, one after the other: the whole map for undefined, or one key, which goes
 * when it is not given. In one pass: a manifest names thousands of parts.
 */
export function maskedKeys<V>(
  current: Readonly<Record<string, V>>,
  given: Readonly<Record<string, V>>,
  keys: readonly (string | undefined)[],
): Readonly<Record<string, V>> {
  let masked = new Map(Object.entries(current));
  for (const key of keys) {
    if (key === undefined) {
      masked = new Map(Object.entries(given));
      continue;
    }
    masked.delete(key);
    const value = Object.hasOwn(given, key) ? given[key] : undefined;
    if (value !== undefined) masked.set(key, value);
  }
  // From entries, since assigning a key named `__proto__` would not make one.
  return Object.fromEntries(masked);
}

/**
 * The labels after an update of something of which nothing else can be updated: all of `given` without a mask. Throws
 * `invalid-argument` for another field, naming `what`.
 */
export function maskedLabels(
  current: Labels,
  given: Labels,
  { fields, what }: { readonly fields: readonly string[]; readonly what: string },
): Labels {
  if (fields.length === 0) return given;
  const keys = fields.map((path) => {
    const { field, key } = parseFieldPath(path, ["labels"]);
    if (field !== "labels") throw invalidArgument(`cannot update "${path}" field on ${what}`);
    return key;
  });
  return maskedKeys(current, given, keys);
}
