import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "#pkg/errors.ts";
import { parseProcStatus } from "#pkg/oci/capabilities.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const line = fc.tuple(
  fc.oneof(fc.constantFrom("CapInh", " CapEff", "CapBnd ", "__proto__", "Name"), fc.string()),
  fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 70n }).map((bits) => bits.toString(16)),
    fc.string(),
  ),
);
const status = fc
  .array(line)
  .map((lines) => lines.map(([key, value]) => `${key}:\t${value}\n`).join(""));

/** Any text gives sets of 64 bits, or says that it does not. */
export const target = fuzzTarget({
  name: "ParseProcPIDStatus",
  inputs: fc.oneof(status, fc.string()),
  check(text) {
    try {
      for (const bits of Object.values(parseProcStatus(text))) {
        assert.ok(bits >= 0n && bits < 2n ** 64n);
      }
    } catch (error) {
      if (!hasCode(error, "invalid-argument")) throw error;
    }
  },
});
