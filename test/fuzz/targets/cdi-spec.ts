import fc from "fast-check";
import { checkCdiSpec } from "#pkg/cdi/cdi-spec.ts";
import { neededVersion } from "#pkg/cdi/version.ts";
import { hasCode } from "#pkg/errors.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const edits = fc.record(
  {
    env: fc.array(fc.constantFrom("A=1", "A", "")),
    deviceNodes: fc.array(fc.record({ path: fc.string(), type: fc.string({ maxLength: 1 }) })),
    mounts: fc.array(fc.record({ hostPath: fc.string(), containerPath: fc.string() })),
    additionalGids: fc.array(fc.integer()),
    extra: fc.jsonValue(),
  },
  { requiredKeys: [] },
);
const near = fc.record({
  cdiVersion: fc.constantFrom("0.3.0", "1.1.0", "v0.7.0", "0.9.0"),
  kind: fc.constantFrom("a.com/b", "a", "/", "a.com/b.c"),
  devices: fc.array(fc.record({ name: fc.string({ maxLength: 2 }), containerEdits: edits })),
});

/** Anything is a file whose version has all that it uses, or invalid-argument. */
export const target = fuzzTarget({
  name: "CdiSpec",
  inputs: fc.oneof(near, fc.jsonValue()),
  check(value) {
    try {
      neededVersion(checkCdiSpec(value));
    } catch (error) {
      if (!hasCode(error, "invalid-argument")) throw error;
    }
  },
});
