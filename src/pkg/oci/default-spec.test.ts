import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { defaultSpec, hostMaskedPaths, parseCpuList } from "./default-spec.ts";

suite("default specification", () => {
  test("GHSA-7ww5-4wqc-m92c: the processor's use of energy is masked", () => {
    const { linux } = defaultSpec({ namespace: "n", id: "c" });
    assert.ok(linux?.maskedPaths?.includes("/sys/devices/virtual/powercap"));
    assert.ok(linux?.maskedPaths?.includes("/proc/interrupts"));
    assert.equal(linux?.cgroupsPath, "/n/c");
  });

  test("hostMaskedPaths() masks thermal_throttle of every CPU that has it", async () => {
    using dir = mkdtempDisposableSync(join(tmpdir(), "sysfs-"));
    const cpus = join(dir.path, "devices/system/cpu");
    for (const cpu of ["cpu0", "cpu2"]) {
      mkdirSync(join(cpus, cpu, "thermal_throttle"), { recursive: true });
    }
    writeFileSync(join(cpus, "possible"), "0-3\n");
    const paths = await hostMaskedPaths(dir.path);
    assert.deepEqual(
      paths.filter((path) => path.includes("thermal")),
      ["cpu0", "cpu2"].map((cpu) => `/sys/devices/system/cpu/${cpu}/thermal_throttle`),
    );
    assert.ok(paths.includes("/proc/kcore"));
  });

  test("hostMaskedPaths() does without a sysfs", async () => {
    const paths = await hostMaskedPaths("/nonexistent");
    assert.deepEqual(paths, defaultSpec({ namespace: "n", id: "c" }).linux?.maskedPaths);
  });

  test("parseCpuList() takes ranges, and no more than a kernel can have", () => {
    assert.deepEqual(parseCpuList("0-2,5,8-9\n"), [0, 1, 2, 5, 8, 9]);
    assert.deepEqual(parseCpuList(""), []);
    assert.deepEqual(parseCpuList("x,3-1,-1"), []);
    assert.equal(parseCpuList("0-99999").length, 8192);
  });
});
