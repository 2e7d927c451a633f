import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { linux } from "#pkg/sys/linux.ts";
import { deviceAt, devicesAt, hostDevices } from "./devices.ts";

suite("devices", () => {
  test("deviceAt() reads what a node stands for, and no file or link", async () => {
    const device = await deviceAt("/dev/null");
    assert.deepEqual([device?.type, device?.major, device?.minor], ["c", 1, 3]);
    assert.equal(await deviceAt("/proc/version"), undefined);
    assert.equal(await deviceAt("/proc/self"), undefined);
  });

  test("devicesAt() takes one, under another name inside", async () => {
    const [device] = await devicesAt("/dev/zero", "/dev/inside");
    assert.deepEqual([device?.path, device?.minor], ["/dev/inside", 5]);
    await assert.rejects(devicesAt("/proc/version"), /not a device node/);
    await assert.rejects(devicesAt("/nonexistent"), /ENOENT/);
  });

  test("devicesAt() of a directory leaves out what is no device", async () => {
    using dir = mkdtempDisposableSync(join(tmpdir(), "devices-"));
    mkdirSync(join(dir.path, "sub"));
    writeFileSync(join(dir.path, "sub", "file"), "");
    linux.mkfifo(join(dir.path, "fifo"), 0o600);
    symlinkSync("/dev/null", join(dir.path, "link"));
    assert.deepEqual(await devicesAt(dir.path), []);
  });

  test("hostDevices() are those below /dev, without terminals", async () => {
    const paths = (await hostDevices()).map(({ path }) => path);
    assert.ok(paths.includes("/dev/null"));
    assert.ok(!paths.some((path) => path.startsWith("/dev/pts/") || path === "/dev/console"));
  });
});
