import assert from "node:assert";
import { test } from "node:test";
import { parseFailpoints } from "#pkg/failpoint.ts";

test("a failpoint acts at the hit it names, and others do nothing", () => {
  const failpoints = parseFailpoints("a.b=error:3,c=error");
  failpoints.hit("a.b");
  failpoints.hit("a.b");
  failpoints.hit("other");
  assert.throws(() => failpoints.hit("a.b"), /failpoint a\.b/);
  assert.throws(() => failpoints.hit("c"), /failpoint c/);
});

test("an empty specification names none, a malformed one is refused", () => {
  parseFailpoints("").hit("a");
  for (const bad of ["a", "a=", "a=sleep", "a=kill:0", "A=kill", "a=kill:x"]) {
    assert.throws(() => parseFailpoints(bad), /is not of the form/, bad);
  }
});
