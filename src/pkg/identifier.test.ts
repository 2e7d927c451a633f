import assert from "node:assert";
import { test } from "node:test";
import { assertIdentifier } from "#pkg/identifier.ts";
import { assertLabels, withoutEmpty } from "#pkg/label.ts";

test("identifiers: what upstream takes and refuses", () => {
  for (const good of ["a", "A9", "k8s.io", "a-b_c.d", "x".repeat(76)]) assertIdentifier(good);
  const bad = ["", ".", "a..b", "-a", "a-", "a/b", "../x", "a b", "ü", "a\n", "x".repeat(77)];
  for (const text of bad) {
    assert.throws(() => assertIdentifier(text), { code: "invalid-argument" }, text);
  }
});

test("labels: key and value are at most 4096 bytes together", () => {
  assertLabels({ k: "x".repeat(4095) });
  assert.throws(() => assertLabels({ k: "x".repeat(4096) }), { code: "invalid-argument" });
  assert.throws(() => assertLabels({ k: "ü".repeat(2048) }), {
    message: /length \(4097 bytes\) greater than maximum size \(4096 bytes\), key: k/,
  });
  assert.deepStrictEqual(withoutEmpty({ a: "", b: "1" }), { b: "1" });
});
