import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { matchesPattern } from "./pattern.ts";

// As Go's path.Match answers.
const cases: readonly (readonly [string, string, boolean])[] = [
  ["abc", "abc", true],
  ["*", "abc", true],
  ["*c", "abc", true],
  ["a*", "a", true],
  ["a*", "ab/c", false],
  ["a*/b", "abc/b", true],
  ["a*/b", "a/c/b", false],
  ["a*b*c*d*e*/f", "axbxcxdxe/f", true],
  ["a*b*c*d*e*/f", "axbxcxdxexxx/fff", false],
  ["a*b?c*x", "abxbbxdbxebxczzx", true],
  ["ab[c]", "abc", true],
  ["ab[b-d]", "abc", true],
  ["ab[e-g]", "abc", false],
  ["ab[^c]", "abc", false],
  ["ab[^e-g]", "abc", true],
  ["a\\*b", "a*b", true],
  ["a\\*b", "ab", false],
  ["a?b", "a☺b", true],
  ["a[^a]b", "a☺b", true],
  ["a?b", "a/b", false],
  ["a*b", "a/b", false],
  ["[\\]a]", "]", true],
  ["[\\-x]", "-", true],
  ["[x\\-]", "z", false],
  ["[]a]", "]", false],
  ["[-]", "-", false],
  ["[x-]", "x", false],
  ["[a-b-c]", "a", false],
  ["[", "a", false],
  ["[^", "a", false],
  ["a[", "ab", false],
  ["\\", "a", false],
  ["", "", true],
  ["*x", "xxx", true],
  ["io.kubernetes.*", "io.kubernetes.cri.a", true],
];

suite("matchesPattern()", () => {
  for (const [pattern, name, expected] of cases) {
    test(`${pattern} ${expected ? "matches" : "does not match"} ${name}`, () => {
      assert.equal(matchesPattern(pattern, name), expected);
    });
  }

  test("many stars take no more than their product", () => {
    const startedMs = performance.now();
    assert.equal(matchesPattern(`${"*a".repeat(200)}b`, "a".repeat(2000)), false);
    assert.ok(performance.now() - startedMs < 5_000);
  });
});
