import type { ConfigTable } from "#pkg/plugin/plugin.ts";

/**
 * The section's values over the defaults, key by key: tables merge, everything else is replaced.
 */
export function overlay(defaults: ConfigTable, section: ConfigTable): ConfigTable {
  // A Map, since assigning a key called `__proto__` to an object would change its prototype.
  const merged = new Map<string, unknown>(Object.entries(defaults));
  for (const [key, value] of Object.entries(section)) {
    const before = merged.get(key);
    merged.set(key, isTable(before) && isTable(value) ? overlay(before, value) : value);
  }
  return Object.fromEntries(merged);
}

/** True for what a TOML table parses to; false for arrays and dates. */
export function isTable(value: unknown): value is ConfigTable {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
