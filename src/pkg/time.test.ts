import assert from "node:assert";
import { test } from "node:test";
import {
  formatRfc3339,
  nanosToTimestamp,
  nowNanos,
  timestampToNanos,
  tryParseRfc3339,
} from "#pkg/time.ts";

test("tryParseRfc3339() reads what Go writes", () => {
  const seconds = 1_700_000_000n * 1_000_000_000n;
  assert.strictEqual(tryParseRfc3339("2023-11-14T22:13:20Z"), seconds);
  assert.strictEqual(tryParseRfc3339("2023-11-14T22:13:20.000000001Z"), seconds + 1n);
  assert.strictEqual(tryParseRfc3339("2023-11-15T00:13:20+02:00"), seconds);
  assert.strictEqual(tryParseRfc3339("2023-11-14T17:13:20.5-05:00"), seconds + 500_000_000n);
  assert.strictEqual(tryParseRfc3339("0001-01-01T00:00:00Z"), -62_135_596_800n * 1_000_000_000n);
});

test("tryParseRfc3339() refuses what is no time", () => {
  for (const text of ["", "tomorrow", "2023-02-29T00:00:00Z", "2023-11-14 22:13:20Z"]) {
    assert.strictEqual(tryParseRfc3339(text), undefined, text);
  }
  for (const text of ["2023-11-14T24:00:00Z", "2023-11-14T22:13:20", "2023-13-01T00:00:00Z"]) {
    assert.strictEqual(tryParseRfc3339(text), undefined, text);
  }
});

test("formatRfc3339() and tryParseRfc3339() are each other's inverse", () => {
  for (const nanos of [0n, 1n, -1n, nowNanos(), 1_500_000_000_100_000_000n]) {
    assert.strictEqual(tryParseRfc3339(formatRfc3339(nanos)), nanos);
  }
  assert.strictEqual(formatRfc3339(1_500_000_000_100_000_000n), "2017-07-14T02:40:00.1Z");
});

test("timestamps keep nanoseconds, before 1970 too", () => {
  for (const nanos of [0n, 1n, -1n, -1_000_000_001n, nowNanos()]) {
    const timestamp = nanosToTimestamp(nanos);
    assert.ok(timestamp.nanos >= 0 && timestamp.nanos < 1e9);
    assert.strictEqual(timestampToNanos(timestamp), nanos);
  }
});

test("nowNanos() is the wall clock", () => {
  const before = Date.now();
  const ms = Number(nowNanos() / 1_000_000n);
  assert.ok(before - 3 <= ms && ms <= Date.now() + 3);
});
