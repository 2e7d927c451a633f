import assert from "node:assert";
import { test } from "node:test";
import { toSafeInteger, toSize } from "#pkg/safe-integer.ts";

test("integers beyond what a number holds are refused by name", () => {
  assert.strictEqual(toSafeInteger(-5n, "x"), -5);
  assert.strictEqual(toSize(2n ** 53n - 1n, "x"), Number.MAX_SAFE_INTEGER);
  assert.throws(
    () => toSafeInteger(2n ** 53n, "offset"),
    /offset 9007199254740992 is out of range/,
  );
  assert.throws(() => toSize(-1n, "total"), /total -1 is negative: invalid argument/);
});
