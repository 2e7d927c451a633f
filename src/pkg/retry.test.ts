import assert from "node:assert/strict";
import { test } from "node:test";
import { Context } from "#pkg/context.ts";
import { parseRetryAfter, pause } from "#pkg/retry.ts";

test("Retry-After is seconds or a date", () => {
  const now = Date.UTC(2026, 0, 31, 23, 59, 50);
  assert.equal(parseRetryAfter("120", now), 120_000);
  assert.equal(parseRetryAfter(" 0 ", now), 0);
  assert.equal(parseRetryAfter("Sun, 01 Feb 2026 00:00:00 GMT", now), 10_000);
  assert.equal(parseRetryAfter("Sat, 31 Jan 2026 23:00:00 GMT", now), 0);
  for (const text of ["", "-1", "1.5", "soon", "99999999999", "Sun, 01 Foo 2026 00:00:00 GMT"]) {
    assert.equal(parseRetryAfter(text, now), undefined, text);
  }
  assert.equal(parseRetryAfter(undefined, now), undefined);
});

test("a pause ends with its context", async () => {
  const controller = new AbortController();
  const ctx = Context.background({ signal: controller.signal });
  await pause(ctx, 0);
  const long = pause(ctx, 3_600_000);
  controller.abort();
  await assert.rejects(long, { code: "canceled" });
  await assert.rejects(pause(ctx, 0), { code: "canceled" });
});
