import assert from "node:assert/strict";
import { test } from "node:test";
import * as v from "valibot";
import { pluginConfig } from "#pkg/plugin/config.ts";
import type { ConfigTable } from "#pkg/plugin/plugin.ts";
import { overlay } from "#pkg/plugin/table.ts";

const schema = v.object({
  address: v.pipe(v.string(), v.startsWith("/", "absolute path")),
  size: v.optional(v.number()),
  rows: v.optional(v.array(v.object({ name: v.string() }))),
  runtimes: v.optional(v.record(v.string(), v.object({ type: v.string() }))),
});
const config = pluginConfig(schema, { address: "/a" });

function decode(section: ConfigTable): { unknown: string[]; value: unknown } {
  const unknown: string[] = [];
  const merged = overlay(config.defaults, section);
  const value = config.decode(merged, (path) => unknown.push(path.join(" ")));
  return { unknown, value };
}

test("decode() reports keys the schema does not name, at any depth, and drops them", () => {
  const { unknown, value } = decode({
    colour: 1,
    rows: [{ name: "a", more: 1 }],
    runtimes: { runc: { type: "t", extra: { deep: 1 } } },
  });
  assert.deepEqual(unknown, ["colour", "rows 0 more", "runtimes runc extra"]);
  assert.deepEqual(value, {
    address: "/a",
    rows: [{ name: "a" }],
    runtimes: { runc: { type: "t" } },
  });
});

test("decode() names the key, what was expected and what was given", () => {
  const refused = (section: ConfigTable, message: string): void => {
    const error = { code: "invalid-argument", message: `${message}: invalid argument` };
    assert.throws(() => decode(section), error);
  };
  refused({ size: "5" }, 'key size: expected number, got "5"');
  refused({ address: "a" }, 'key address: expected absolute path, got "a"');
  refused({ rows: { name: "a" } }, "key rows: expected array, got a table");
  refused({ rows: [{}] }, "key rows.0.name is missing");
  refused({ runtimes: [] }, "key runtimes: expected table, got an array");
  refused({ runtimes: { "a.b": { type: 1 } } }, 'key runtimes."a.b".type: expected string, got 1');
  const long = "x".repeat(500);
  refused({ size: long }, `key size: expected number, got "${"x".repeat(79)}..`);
});

test("overlay() merges tables, replaces all else, and takes no key for a prototype", () => {
  const hostile: unknown = JSON.parse('{"__proto__": {"polluted": true}, "t": {"list": [2]}}');
  const merged = overlay({ t: { a: 1, list: [1] }, kept: true }, hostile as ConfigTable); // -- an object
  assert.deepEqual(merged["t"], { a: 1, list: [2] });
  assert.equal(merged["kept"], true);
  assert.equal(merged["polluted"], undefined);
  assert.ok(Object.hasOwn(merged, "__proto__"));
});
