import * as v from "valibot";
import { type CodedError, invalidArgument } from "#pkg/errors.ts";
import type { ConfigTable, PluginConfig } from "#pkg/plugin/plugin.ts";
import { isTable } from "#pkg/plugin/table.ts";

/**
 * A plugin's configuration from a valibot schema and its defaults, both with the keys as written in
 * TOML.
 *
 * `v.object` describes a table with known keys: others are reported and ignored, as upstream.
 * `v.record` takes any key. A value of the wrong type throws `invalid-argument`: `key a.b: expected
 * string, got 5`.
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

/**
 * Parses a table; the error names the first key that is wrong, what was expected there and what was
 * given.
 */
export function parseTable<S extends v.GenericSchema>(schema: S, table: unknown): v.InferOutput<S> {
  // For valibot an array is an object as well.
  const [misplaced] = walk(schema, table).notTables;
  if (misplaced) throw wrongValue(misplaced.path, "table", misplaced.value);
  const result = v.safeParse(schema, table, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = issue.path?.map((item) => String(item.key)) ?? [];
  if (issue.input === undefined) throw invalidArgument(`key ${quotePath(path)} is missing`);
  throw wrongValue(path, expectation(issue), issue.input);
}

function expectation(issue: v.BaseIssue<unknown>): string {
  const { expected, message } = issue;
  const hasOwnWords = issue.kind === "validation" && !message.startsWith("Invalid ");
  if (hasOwnWords || expected === null) return message;
  return named[expected] ?? expected;
}

const named: Readonly<Record<string, string>> = { Object: "table", Array: "array" };

function wrongValue(path: readonly string[], expected: string, given: unknown): CodedError {
  const what = path.length === 0 ? "table" : `key ${quotePath(path)}`;
  return invalidArgument(`${what}: expected ${expected}, got ${describe(given)}`);
}

/** The keys that the schema's `v.object`s do not name, by path from the table given. */
export function unknownKeys(schema: v.GenericSchema, table: unknown): string[][] {
  return walk(schema, table).unknown;
}

interface Walked {
  readonly unknown: string[][];
  readonly notTables: { readonly path: string[]; readonly value: unknown }[];
}

/** Goes through schema and value side by side. */
function walk(schema: unknown, value: unknown): Walked {
  const walked: Walked = { unknown: [], notTables: [] };
  const visit = (at: unknown, inner: unknown, path: string[]): void => {
    const { entries, item, value: each } = shapeOf(at);
    if (item && Array.isArray(inner)) {
      for (const [i, element] of inner.entries()) visit(item, element, [...path, String(i)]);
      return;
    }
    if (!entries && !each) return;
    if (!isTable(inner)) {
      if (inner !== undefined) walked.notTables.push({ path, value: inner });
      return;
    }
    for (const [key, child] of Object.entries(inner)) {
      const keyPath = [...path, key];
      if (each) visit(each, child, keyPath);
      else if (Object.hasOwn(entries ?? {}, key)) visit(entries?.[key], child, keyPath);
      else walked.unknown.push(keyPath);
    }
  };
  visit(schema, value, []);
  return walked;
}

interface Shape {
  readonly entries?: Readonly<Record<string, unknown>>;
  readonly item?: unknown;
  readonly value?: unknown;
}

/** The part of a schema that says which keys there are, below `optional` and `pipe`. */
function shapeOf(schema: unknown): Shape {
  const at = schema as Shape & { wrapped?: unknown; pipe?: readonly unknown[]; type?: string };
  if (at.pipe?.[0] !== undefined && at.pipe[0] !== schema) return shapeOf(at.pipe[0]);
  if (at.wrapped !== undefined) return shapeOf(at.wrapped);
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
  if (isTable(value)) return "a table";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "bigint") return value.toString();
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}..` : text;
}
