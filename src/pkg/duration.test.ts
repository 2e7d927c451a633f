import assert from "node:assert";
import { test } from "node:test";
import { formatDuration, tryParseDuration } from "#pkg/duration.ts";

test("tryParseDuration() reads Go's durations", () => {
  const cases: readonly [string, number][] = [
    ["0", 0],
    ["0ms", 0],
    ["100ms", 100],
    ["1.5h", 5_400_000],
    ["1h15m30.5s", 4_530_500],
    ["-2s", -2000],
    ["+.5s", 500],
    ["3us", 0.003],
    ["7µs", 0.007],
  ];
  for (const [text, ms] of cases) assert.strictEqual(tryParseDuration(text), ms, text);
});

test("tryParseDuration() refuses the rest", () => {
  for (const text of ["", "1", "s", "1 s", "1d", ".s", "1e3s", "--1s", "9999999999h"]) {
    assert.strictEqual(tryParseDuration(text), undefined, text);
  }
});

test("formatDuration() writes as Go does", () => {
  const cases: readonly [number, string][] = [
    [0, "0s"],
    [0.001, "1µs"],
    [12.5, "12.5ms"],
    [100, "100ms"],
    [1500, "1.5s"],
    [60_000, "1m0s"],
    [5_400_000, "1h30m0s"],
    [-100, "-100ms"],
  ];
  for (const [ms, text] of cases) assert.strictEqual(formatDuration(ms), text);
});
