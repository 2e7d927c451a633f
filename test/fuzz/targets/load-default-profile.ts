import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "#pkg/errors.ts";
import { defaultApparmorProfile } from "#pkg/oci/apparmor.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const host = { daemonProfile: "unconfined", includes: ["tunables/global"] };
const lines = defaultApparmorProfile("name", host).split("\n").length;

/** Whatever it is called, the profile is one of that name and has no line more. */
export const target = fuzzTarget({
  name: "LoadDefaultProfile",
  inputs: fc.oneof(
    fc.string(),
    fc.constantFrom("a {\n}", "a flags=(complain)", "a b", "..", "docker-default", ""),
    fc.stringMatching(/^[a-z.-]+$/),
  ),
  check(name) {
    try {
      const text = defaultApparmorProfile(name, host);
      assert.equal(text.split("\n").length, lines);
      assert.match(name, /^\S+$/);
      assert.ok(text.includes(`profile ${name} flags=(`));
      assert.equal(text.match(/^profile /gm)?.length, 1);
    } catch (error) {
      if (!hasCode(error, "invalid-argument")) throw error;
    }
  },
});
