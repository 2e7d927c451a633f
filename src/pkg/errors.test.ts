import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CodedError,
  codeOf,
  conflict,
  failedPrecondition,
  fromStatus,
  notFound,
  notModified,
  toStatus,
  wrap,
} from "#pkg/errors.ts";

test("what shares the wire's failed precondition comes back as what it was", () => {
  for (const [make, code] of [
    [conflict, "conflict"],
    [notModified, "not-modified"],
    [failedPrecondition, "failed-precondition"],
  ] as const) {
    const status = toStatus(wrap("update", make('container "a"')));
    assert.equal(status.code, 9);
    const back = fromStatus(status.code, status.message);
    assert.deepEqual([back.code, back.message], [code, status.message]);
  }
  assert.equal(fromStatus(9, "conflict").code, "conflict");
  assert.equal(fromStatus(9, "no conflict").code, "failed-precondition");
  assert.equal(fromStatus(9, "x: conflict of y").code, "failed-precondition");
});

test("every status code has its class, and an unknown one is unknown", () => {
  assert.equal(fromStatus(5, "x: not found").code, "not-found");
  assert.equal(fromStatus(12, "").code, "not-implemented");
  assert.equal(fromStatus(99, "x").code, "unknown");
});

test("wrap() keeps the class and puts the context in front", () => {
  const error = wrap("unpack image", notFound("content sha256:ab"));
  assert.equal(error.message, "unpack image: content sha256:ab: not found");
  assert.equal(codeOf(new Error("outer", { cause: error })), "not-found");
});

test("a deadline is told from a cancel by the deepest cause", () => {
  const timeout = new DOMException("late", "TimeoutError");
  const aborted = Object.assign(new Error("aborted", { cause: timeout }), { name: "AbortError" });
  assert.deepEqual(toStatus(aborted), { code: 4, message: "context deadline exceeded" });
  const canceled = Object.assign(new Error("aborted"), { name: "AbortError" });
  assert.deepEqual(toStatus(canceled), { code: 1, message: "context canceled" });
});

test("a raw system error is unknown until a layer that understands it says more", () => {
  const missing = Object.assign(new Error("no such file"), { code: "ENOENT" });
  assert.deepEqual(toStatus(missing), { code: 2, message: "no such file" });
  assert.ok(!(missing instanceof CodedError));
});
