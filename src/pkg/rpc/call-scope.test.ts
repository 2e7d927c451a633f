import assert from "node:assert/strict";
import { test } from "node:test";
import { Context } from "#pkg/context.ts";
import { CallScope } from "#pkg/rpc/call-scope.ts";

function scopeOf(timeoutMs: number | undefined): CallScope {
  return new CallScope(Context.background(), { namespace: "a", lease: undefined, timeoutMs });
}

test("a caller who goes away at its deadline has reached it, before that it has cancelled", (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"], now: 1_000_000 });
  const early = scopeOf(1000);
  t.mock.timers.setTime(1_000_500);
  early.cancel();
  assert.equal(early.error().code, "canceled");
  // The timer of this one is a moment behind the client's.
  const late = scopeOf(1000);
  t.mock.timers.setTime(1_001_495);
  assert.equal(late.ctx.signal.aborted, false);
  late.cancel();
  assert.equal(late.error().code, "deadline-exceeded");
  assert.throws(() => late.ctx.throwIfEnded(), { code: "deadline-exceeded" });
  const forEver = scopeOf(undefined);
  forEver.cancel();
  assert.equal(forEver.error().code, "canceled");
});

test("a deadline that has passed ends the call at once, one that comes ends it then", (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"] });
  assert.equal(scopeOf(0).error().code, "deadline-exceeded");
  const scope = scopeOf(50);
  t.mock.timers.tick(49);
  assert.equal(scope.ctx.signal.aborted, false);
  t.mock.timers.tick(1);
  assert.equal(scope.error().code, "deadline-exceeded");
});

test("a call that is over is not cancelled any more", (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"] });
  const scope = scopeOf(50);
  scope.end();
  scope.cancel();
  t.mock.timers.tick(100);
  assert.equal(scope.ctx.signal.aborted, false);
});
