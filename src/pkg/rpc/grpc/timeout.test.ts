import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatTimeout, parseTimeoutMs } from "./timeout.ts";

test("parseTimeoutMs() knows the six units", () => {
  const cases = { "2H": 7_200_000, "3M": 180_000, "4S": 4000, "5m": 5, "6u": 0.006, "7n": 7e-6 };
  for (const [text, ms] of Object.entries(cases)) {
    assert.ok(Math.abs(parseTimeoutMs(text) - ms) < 1e-9, text);
  }
  assert.equal(parseTimeoutMs("0n"), 0);
  assert.equal(parseTimeoutMs("99999999H"), 99_999_999 * 3_600_000);
});

test("parseTimeoutMs() refuses anything else", () => {
  for (const text of ["", "1", "S", "1s", "123456789S", "-1S", "1.5S", " 1S", "1S ", "0x1S"]) {
    assert.throws(() => parseTimeoutMs(text), { code: "internal" }, text);
  }
});

test("formatTimeout() is read back as no shorter a time, nor much longer", () => {
  fc.assert(
    fc.property(fc.double({ min: 1e-3, max: 1e12, noNaN: true }), (ms) => {
      const back = parseTimeoutMs(formatTimeout(ms));
      assert.ok(back >= ms * (1 - 1e-9) && back <= ms * 1.001 + 0.001, `${ms} became ${back}`);
    }),
  );
});

test("formatTimeout() of a time that has passed is the shortest there is", () => {
  assert.equal(formatTimeout(0), "1n");
  assert.equal(formatTimeout(-5000), "1n");
});
