import * as v from "valibot";
import { invalidArgument } from "#pkg/errors.ts";
import type { ConfigTable, PluginConfig } from "#pkg/plugin/plugin.ts";
import { isTable } from "#pkg/plugin/table.ts";

/**
 * A plugin's configuration from a valibot schema and its defaults, both with the keys as written in TOML.
 *
 * `v.object` describes a table with known keys: others are reported and ignored, as upstream. `v.record` takes any
 * key. A value of the wrong type throws `invalid-argument`: `key a.b: expected string, got 5`.
 */
export function pluginConfig<const S extends Schema>(
  schema: S,
  defaults: v.InferInput<S> & ConfigTable,
  migrate?: PluginConfig<v.InferOutput<S>>["migrate"],
): PluginConfig<v.InferOutput<S>> {
  return {
    defaults,
    decode(section, onUnknownKey) {
      for (const path of unknownKeys(schema, section)) onUnknownKey(path);
      return parseTable(schema, section);
    },
    ...(migrate && { migrate }),
  };
}

type Schema = v.GenericSchema<ConfigTable, unknown>;

/** Parses a table; the error names the first key that is wrong, what was expected there and what was given. */
export function parseTable<S extends v.GenericSchema>(schema: S, table: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, table, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = issue.path?.map((item) => String(item.key)) ?? [];
  const what = path.length === 0 ? "table" : `key ${quotePath(path)}`;
  const expected = issue.expected ?? issue.message;
  throw invalidArgument(`${what}: expected ${expected}, got ${describe(issue.input)}`);
}

/** The keys that the schema's `v.object`s do not name, by path from the table given. */
export function unknownKeys(schema: v.GenericSchema, table: unknown): string[][] {
  const found: string[][] = [];
  const walk = (at: unknown, value: unknown, path: string[]): void => {
    const inner = unwrap(at);
    if (Array.isArray(value)) {
      if (inner.item) for (const element of value) walk(inner.item, element, path);
      return;
    }
    if (!isTable(value)) return;
    for (const [key, child] of Object.entries(value)) {
      if (inner.entries) {
        if (Object.hasOwn(inner.entries, key)) walk(inner.entries[key], child, [...path, key]);
        else found.push([...path, key]);
      } else if (inner.value) walk(inner.value, child, [...path, key]);
    }
  };
  walk(schema, table, []);
  return found;
}

interface Shape {
  readonly entries?: Readonly<Record<string, unknown>>;
  readonly item?: unknown;
  readonly value?: unknown;
}

/** The part of a schema that says which keys there are, below `optional` and `pipe`. */
function unwrap(schema: unknown): Shape {
  const at = schema as Shape & { wrapped?: unknown; pipe?: readonly unknown[]; type?: string };
  if (at.pipe?.[0] !== undefined && at.pipe[0] !== schema) return unwrap(at.pipe[0]);
  if (at.wrapped !== undefined) return unwrap(at.wrapped);
  return {
    ...(at.type === "object" && at.entries && { entries: at.entries }),
    ...(at.type === "array" && { item: at.item }),
    ...(at.type === "record" && { value: at.value }),
  };
}

/** `a."b.c".d`: the way a key is written in TOML. */
export function quotePath(path: readonly string[]): string {
  return path.map((key) => (/^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key))).join(".");
}

/** A value in a message: short, in its TOML form where it has one. */
function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (isTable(value)) return "a table";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "bigint") return value.toString();
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}..` : text;
}
