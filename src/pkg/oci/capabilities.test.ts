import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { hasCode } from "#pkg/errors.ts";
import { capabilitiesOf, currentCapabilities, parseProcStatus } from "./capabilities.ts";

suite("capabilities", () => {
  test("parseProcStatus() finds the five sets", () => {
    const text =
      "Name:\tcat\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t00000000a80425fb\n" +
      "CapBnd:\tffffffffffffffff\nCapAmb:\t0000000000000001\nNoNewPrivs:\t0\n";
    assert.deepEqual(parseProcStatus(text), {
      inheritable: 0n,
      permitted: 0x1ffffffffffn,
      effective: 0xa80425fbn,
      bounding: 0xffffffffffffffffn,
      ambient: 1n,
    });
  });

  test("parseProcStatus() refuses what is no set", () => {
    for (const value of ["", "g", "-1", "0x1", "1 2", "10000000000000000"]) {
      assert.throws(
        () => parseProcStatus(`CapEff:\t${value}\n`),
        (error) => hasCode(error, "invalid-argument"),
        value,
      );
    }
  });

  test("capabilitiesOf() names bits by the kernel's numbers", () => {
    assert.deepEqual(capabilitiesOf(1n | (1n << 21n) | (1n << 40n) | (1n << 63n)), [
      "CAP_CHOWN",
      "CAP_SYS_ADMIN",
      "CAP_CHECKPOINT_RESTORE",
    ]);
  });

  test("currentCapabilities() are some", async () => {
    assert.ok((await currentCapabilities()).every((name) => name.startsWith("CAP_")));
  });
});
