import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstat, mkdir, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { attachLoop } from "#core/mount/loop-device.ts";
import { LoopbackHandler } from "#core/mount/loopback-handler.ts";
import type { MountHandler } from "#core/mount/manager.ts";
import { format } from "#core/mount/manager/format.ts";
import { LocalMountManager } from "#core/mount/manager/local-manager.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { mountOf } from "#core/mount/suite.ts";
import { Context } from "#pkg/context.ts";
import { AT, LOCK, MS, O } from "#pkg/sys/constants.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { ErofsHandler } from "#plugins/mount/erofs/erofs-handler.ts";
import { erofsImage } from "#test/support/erofs-image.ts";
import { commandPath } from "#test/support/needs.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const needs = ["loop"] as const;
const ctx = Context.background().withNamespace("test");

async function openManager(room: Room, sys: Syscalls = linux): Promise<LocalMountManager> {
  const targets = join(room.dir, "t");
  const mounter = new Mounter({ sys, tempDir: room.dir });
  return LocalMountManager.open({
    ctx,
    targets,
    mounter,
    handlers: new Map<string, MountHandler>([
      ["loop", new LoopbackHandler(sys)],
      ["erofs", new ErofsHandler(sys, mounter)],
    ]),
    transforms: new Map([["format", format]]),
  });
}

async function ext4(room: Room, name: string): Promise<string> {
  const path = join(room.dir, name);
  await writeFile(path, "");
  execFileSync("truncate", ["-s", "4M", path]);
  execFileSync(commandPath("mkfs.ext4") ?? "", ["-q", path]);
  return path;
}

/** Files that loop devices show, of those below the room. */
async function shown(room: Room): Promise<string[]> {
  const files: string[] = [];
  for (const name of await readdir("/sys/block")) {
    const file = await readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => "");
    if (file.startsWith(room.dir)) files.push(file.trim());
  }
  return files;
}

async function gone(room: Room): Promise<void> {
  // The kernel takes its time to let go of a file system's device.
  for (let tries = 0; tries < 100 && (await shown(room)).length > 0; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.deepEqual(await shown(room), []);
}

roomTest(
  "a loop mount is a device that shows a file until it is undone",
  async (room) => {
    const image = await ext4(room, "image");
    const manager = await openManager(room);
    const mounts = [mountOf("loop", image), mountOf("format/ext4", "{{ mount 0 }}", ["nodev"])];
    const { active, system } = await manager.activate(ctx, "m", mounts);
    const point = active[0]?.mountPoint ?? "";
    assert.match(await readlink(point), /^\/dev\/loop\d+$/);
    assert.deepEqual(system, [mountOf("ext4", point, ["nodev"])]);
    assert.deepEqual(await shown(room), [image]);
    const at = join(room.dir, "at");
    await mkdir(at);
    const mounter = new Mounter({ sys: linux, tempDir: room.dir });
    await mounter.mountAll(ctx, system, at);
    await writeFile(join(at, "file"), "kept");
    // Undone while it is mounted, it goes with the mount.
    await manager.deactivate(ctx, "m");
    assert.equal(await readFile(join(at, "file"), "utf8"), "kept");
    assert.deepEqual(await shown(room), [image]);
    await mounter.unmountAll(ctx, at);
    await gone(room);
  },
  { needs },
);

roomTest(
  "a loop mount outlives its daemon, and one that is left over is undone",
  async (room) => {
    const image = await ext4(room, "image");
    const other = await ext4(room, "other");
    const first = await openManager(room);
    await first.activate(ctx, "kept", [mountOf("loop", image)]);
    await first.activate(ctx, "left", [mountOf("loop", other)]);
    await rm(join(room.dir, "t", "2", "activation.json"));
    const second = await openManager(room);
    assert.deepEqual(
      (await second.list(ctx)).map(({ name }) => name),
      ["kept"],
    );
    assert.deepEqual(await shown(room), [image]);
    await second.deactivate(ctx, "kept");
    await gone(room);
    // A device that somebody else has ended is no obstacle.
    const { active } = await second.activate(ctx, "again", [mountOf("loop", image)]);
    execFileSync(commandPath("losetup") ?? "", ["-d", await readlink(active[0]?.mountPoint ?? "")]);
    await second.deactivate(ctx, "again");
    assert.deepEqual(await readdir(join(room.dir, "t")), []);
  },
  { needs },
);

roomTest(
  "a file is written by way of one loop device at a time",
  async (room) => {
    const image = await ext4(room, "image");
    const manager = await openManager(room);
    const both = ["a", "b"].map((name) => manager.activate(ctx, name, [mountOf("loop", image)]));
    const settled = await Promise.allSettled(both);
    assert.deepEqual(settled.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
    const reasons = settled.map((each) => (each.status === "rejected" ? String(each.reason) : ""));
    assert.match(reasons.join(""), /image is written by way of \/dev\/loop\d+ already/);
    await manager.activate(ctx, "reader", [mountOf("loop", image, ["ro"])]);
    for (const { name } of await manager.list(ctx)) await manager.deactivate(ctx, name);
    await gone(room);
    const bad = manager.activate(ctx, "m", [mountOf("loop", image, ["offset=1"])]);
    await assert.rejects(bad, { code: "invalid-argument" });
    await assert.rejects(manager.activate(ctx, "m", [mountOf("loop", join(room.dir, "none"))]));
    await assert.rejects(manager.activate(ctx, "m", [mountOf("loop", room.dir)]), /backing file/);
    assert.deepEqual(await readdir(join(room.dir, "t")), []);
  },
  { needs },
);

roomTest(
  "the option loop mounts a file; twice, it is one file system",
  async (room) => {
    const image = await ext4(room, "image");
    const mounter = new Mounter({ sys: linux, tempDir: room.dir });
    const points = ["one", "two"].map((name) => join(room.dir, name));
    for (const point of points) {
      await mkdir(point);
      await mounter.mountAll(ctx, [mountOf("ext4", image, ["loop", "direct-io"])], point);
    }
    assert.deepEqual(await shown(room), [image]);
    await writeFile(join(points[0] ?? "", "file"), "written by one");
    assert.equal(await readFile(join(points[1] ?? "", "file"), "utf8"), "written by one");
    for (const point of points) await mounter.unmountAll(ctx, point);
    await gone(room);
    const [point = ""] = points;
    await mounter.mountAll(ctx, [mountOf("ext4", image, ["loop", "ro"])], point);
    await assert.rejects(writeFile(join(point, "file"), ""), { code: "EROFS" });
    assert.equal(await readFile(join(point, "file"), "utf8"), "written by one");
    await mounter.unmountAll(ctx, point);
    await gone(room);
    // A mount that fails leaves no device.
    await writeFile(join(room.dir, "empty"), Buffer.alloc(1 << 20));
    const empty = mountOf("ext4", join(room.dir, "empty"), ["loop"]);
    await assert.rejects(mounter.mountAll(ctx, [empty], point), /invalid argument/);
    await gone(room);
  },
  { needs },
);

roomTest(
  "a mount waits for whoever is about to mount the same file, and shares the device",
  async (room) => {
    const image = await ext4(room, "image");
    const point = join(room.dir, "at");
    await mkdir(point);
    const mounter = new Mounter({ sys: linux, tempDir: room.dir });
    // As another process has it, between its look for a device and its own.
    const fd = linux.openat(AT.FDCWD, image, O.RDWR);
    linux.flock(fd, LOCK.EX);
    const mounting = mounter.mountAll(ctx, [mountOf("ext4", image, ["loop"])], point);
    const before = await shown(room);
    using device = await attachLoop(ctx, linux, image, { readOnly: false });
    linux.close(fd);
    await mounting;
    const after = await shown(room);
    const found = await readFile("/proc/self/mountinfo", "utf8");
    await mounter.unmountAll(ctx, point);
    assert.deepEqual([before, after], [[], [image]]);
    assert.ok(found.includes(`${point} `) && found.includes(` ext4 ${device.path} `), found);
  },
  { needs },
);

/** A kernel that mounts EROFS from block devices only, as those before 6.12. */
const beforeFiles: Syscalls = {
  ...linux,
  fsconfigCreate(fs) {
    if (sources.get(fs)?.startsWith("/dev/") !== true) {
      throw new SyscallError("ENOTBLK", "fsconfig");
    }
    linux.fsconfigCreate(fs);
  },
  fsconfigSetString(fs, key, value) {
    if (key === "source") sources.set(fs, String(value));
    linux.fsconfigSetString(fs, key, value);
  },
};
const sources = new Map<number, string>();

for (const [kernel, sys] of Object.entries({
  "files as well": linux,
  "block devices": beforeFiles,
})) {
  roomTest(
    `erofs images are mounted, with what they have in others, where the kernel takes ${kernel}`,
    async (room) => {
      const { image, device } = erofsImage({ a: "within", c: "too" }, { b: "outside" });
      // A name longer than the kernel takes for an option's value.
      const dir = join(room.dir, "d".repeat(200), "e".repeat(200));
      await mkdir(dir, { recursive: true });
      const [meta, blob] = [join(dir, "layer.erofs"), join(dir, "blob.erofs")];
      await writeFile(meta, image);
      await writeFile(blob, device);
      const manager = await openManager(room, sys);
      const mounts = [
        mountOf("erofs", meta, ["ro", "loop", "noatime", `device=${blob}`]),
        mountOf("format/overlay", "overlay", ["lowerdir={{ mount 0 }}:/"]),
      ];
      for (const name of ["first", "second"]) {
        const { active, system } = await manager.activate(ctx, name, mounts);
        const point = active[0]?.mountPoint ?? "";
        assert.deepEqual(await readdir(point), ["a", "b", "c"]);
        const read = async (file: string): Promise<string> => readFile(join(point, file), "utf8");
        assert.deepEqual(await Promise.all(["a", "b", "c"].map(read)), [
          "within",
          "outside",
          "too",
        ]);
        assert.equal(linux.statfs(point).flags & MS.RDONLY, MS.RDONLY);
        assert.deepEqual(system[0]?.options, [`lowerdir=${point}:/`]);
      }
      const again = await openManager(room, sys);
      assert.deepEqual(
        (await again.list(ctx)).map(({ name }) => name),
        ["first", "second"],
      );
      for (const name of ["first", "second"]) await again.deactivate(ctx, name);
      assert.deepEqual(await readdir(join(room.dir, "t")), []);
      await gone(room);
    },
    { needs },
  );
}

roomTest("an erofs mount that fails leaves nothing", async (room) => {
  const { image } = erofsImage({ a: "within" });
  const good = join(room.dir, "good");
  const bad = join(room.dir, "bad");
  await writeFile(good, image);
  await writeFile(bad, Buffer.alloc(64 << 10));
  const manager = await openManager(room);
  const lists = [
    [mountOf("erofs", good), mountOf("erofs", bad)],
    [mountOf("erofs", join(room.dir, "none"))],
    [mountOf("erofs", good, ["device=/nowhere"])],
    [mountOf("erofs", good, ["X-containerd.dmverity=/meta"])],
    [mountOf("erofs", good, ["bind"])],
  ];
  for (const mounts of lists) {
    await assert.rejects(manager.activate(ctx, "m", mounts));
    assert.deepEqual(await readdir(join(room.dir, "t")), []);
  }
  await gone(room);
  await assert.rejects(lstat(join(room.dir, "t", "1")), { code: "ENOENT" });
});
