import assert from "node:assert";
import { test } from "node:test";
import { keysByField, maskedKeys, parseFieldPath } from "#pkg/field-mask.ts";

test("parseFieldPath() keeps dots of a key", () => {
  assert.deepStrictEqual(parseFieldPath("labels.a.b", ["labels"]), { field: "labels", key: "a.b" });
  assert.deepStrictEqual(parseFieldPath("labels", ["labels"]), {
    field: "labels",
    key: undefined,
  });
  assert.deepStrictEqual(parseFieldPath("target.size", ["labels"]), {
    field: "target.size",
    key: undefined,
  });
});

test("maskedKeys() replaces the whole, sets one key, or removes it", () => {
  const current = { a: "1", b: "2" };
  assert.deepStrictEqual(maskedKeys(current, { c: "3" }, [undefined]), { c: "3" });
  assert.deepStrictEqual(maskedKeys(current, { b: "3", c: "4" }, ["b"]), { a: "1", b: "3" });
  assert.deepStrictEqual(maskedKeys(current, {}, ["a"]), { b: "2" });
});

test("maskedKeys() treats __proto__ and constructor as keys like others", () => {
  const given = Object.fromEntries([["__proto__", "x"]]);
  const result = maskedKeys({}, given, ["__proto__"]);
  assert.deepStrictEqual(Object.entries(result), [["__proto__", "x"]]);
  assert.deepStrictEqual(maskedKeys({}, {}, ["constructor"]), {});
});

test("maskedKeys() takes thousands of keys in one pass, in their order", () => {
  const keys = Array.from({ length: 20_000 }, (_, i) => `k${i}`);
  const given = Object.fromEntries(keys.map((key) => [key, key]));
  assert.deepStrictEqual(maskedKeys({ a: "1", k0: "old" }, given, keys), { ...given, a: "1" });
  assert.deepStrictEqual(maskedKeys({ a: "1" }, { b: "2" }, ["a", undefined, "c"]), { b: "2" });
});

test("keysByField() gathers the keys of a map, in the order the fields come", () => {
  const paths = ["spec", "labels.a", "extensions.x", "labels", "labels.b.c", "target.size"];
  assert.deepStrictEqual(
    [...keysByField(paths, ["labels", "extensions"])],
    [
      ["spec", [undefined]],
      ["labels", ["a", undefined, "b.c"]],
      ["extensions", ["x"]],
      ["target.size", [undefined]],
    ],
  );
});
