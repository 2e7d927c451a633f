import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { runOk } from "#test/support/command.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, helloImage, ociArchive } from "#test/support/images.ts";
import { whyNot } from "#test/support/needs.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import { openRoom, roomTest } from "#test/support/room.ts";

roomTest("a daemon starts in a room, pulls from our registry, and leaves nothing", async (room) => {
  const daemon = await startDaemon(room, { kind: "go" });
  const image = helloImage("hello from a test\n");
  const registry = room.resources.use(
    await startRegistry([{ repository: "hello", tag: "latest", image }]),
  );
  const name = `${registry.host}/hello:latest`;
  await daemon.ctrOk(["i", "pull", "--plain-http", name]);
  assert.match(await daemon.ctrOk(["i", "ls"]), new RegExp(image.target.digest));
  assert.equal(await daemon.ctrOk(["run", "--rm", name, "c1"]), "hello from a test\n");
});

roomTest("a daemon that was stopped starts again on what it had", async (room) => {
  const daemon = await startDaemon(room, { kind: "go" });
  const archive = join(room.dir, "busybox.tar");
  await writeFile(archive, ociArchive(busyboxImage(), "docker.io/library/busybox:1"));
  await daemon.ctrOk(["i", "import", archive]);
  assert.equal(await daemon.stop(), 0);
  await daemon.start();
  const output = await daemon.ctr(
    "run --rm docker.io/library/busybox:1 c1 sh -c".split(" ").concat("cat /etc/motd; exit 3"),
  );
  assert.deepEqual(output, { code: 3, stdout: "second layer\n", stderr: "" });
});

const skip = whyNot(["root"]) ?? false;

void test("a room names and ends what a test leaves", { skip }, async () => {
  const { room, close } = await openRoom(undefined, { settleMs: 200 });
  const mountpoint = join(room.dir, "mnt");
  const cgroup = join(cgroupHierarchy(), room.namespace, "c1");
  await mkdir(mountpoint);
  await mkdir(cgroup, { recursive: true });
  await runOk(["mount", "-t", "tmpfs", "tmpfs", mountpoint]);
  // The shell ends at once: what it started is an orphan by the time the room closes.
  await runOk(["sh", "-c", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & exit 0"]);
  await assert.rejects(close(), (error: Error) => {
    assert.match(error.message, /process \d+ \(S\): sleep 1000/);
    assert.match(error.message, new RegExp(`mount ${mountpoint}`));
    assert.match(error.message, new RegExp(`cgroup ${cgroup}`));
    return true;
  });
  assert.equal(existsSync(room.dir), false);
  assert.equal(existsSync(cgroup), false);
});

/** Where cgroups are made: version 2 has one tree, version 1 one for each controller. */
function cgroupHierarchy(): string {
  const base = "/sys/fs/cgroup";
  return existsSync(join(base, "cgroup.controllers")) ? base : join(base, "freezer");
}

void test("orphans are reaped, and the exits of our own children still arrive", {
  skip,
}, async () => {
  const { close } = await openRoom();
  const exits = Array.from({ length: 20 }, async () => {
    const { promise, resolve } = Promise.withResolvers<number | null>();
    spawn("sh", ["-c", "(sleep 0.2; exit 5) & exit 7"]).once("exit", resolve);
    return promise;
  });
  // The loop stands still for longer than the reaper waits between two looks.
  const busyUntil = performance.now() + 500;
  setTimeout(() => {
    while (performance.now() < busyUntil);
  });
  assert.deepEqual(new Set(await Promise.all(exits)), new Set([7]));
  await close();
});
