import assert from "node:assert/strict";
import { test } from "node:test";
import { freeBytes, giveBytes } from "#pkg/owned-bytes.ts";

test("bytes that were given are freed, once; others are left alone", () => {
  const given = giveBytes(Buffer.from(new ArrayBuffer(1 << 20)));
  freeBytes(given);
  assert.equal(given.length, 0);
  freeBytes(given);
  const kept = Buffer.from(new ArrayBuffer(1 << 20));
  freeBytes(kept);
  assert.equal(kept.length, 1 << 20);
});

test("who frees a part of what was given frees all of it", () => {
  const given = giveBytes(Buffer.from(new ArrayBuffer(1 << 20)));
  freeBytes(given.subarray(5, 100));
  assert.equal(given.length, 0);
});

test("a part of larger memory is not freed", () => {
  const whole = Buffer.from(new ArrayBuffer(1 << 20));
  const part = giveBytes(whole.subarray(0, 100));
  freeBytes(part);
  assert.equal(whole.length, 1 << 20);
  assert.equal(part.length, 100);
});
