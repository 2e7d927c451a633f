import assert from "node:assert/strict";
import { mkdirSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { closeSync, existsSync, readlinkSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";

import { isErrno } from "#pkg/errors.ts";
import { AT, CLONE, MNT, MOUNT_ATTR, MS, OPEN_TREE, S_IF } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { type Room, roomTest } from "#test/support/room.ts";

function folder(room: Room, name: string): string {
  const path = join(room.dir, name);
  mkdirSync(path);
  return path;
}

/** A tmpfs that goes with the room. */
function tmpfs(room: Room, name: string): string {
  const path = folder(room, name);
  linux.mount(path, { source: "tmpfs", fstype: "tmpfs", data: "size=4m" });
  room.resources.defer(() => linux.umount2(path, MNT.DETACH));
  return path;
}

function overlayFolders(room: Room): Record<"lower" | "upper" | "work" | "merged", string> {
  const base = tmpfs(room, "base");
  const [lower, upper, work] = ["lower", "upper", "work"].map((name) => {
    mkdirSync(join(base, name));
    return join(base, name);
  });
  assert.ok(lower !== undefined && upper !== undefined && work !== undefined);
  writeFileSync(join(lower, "a"), "lower");
  return { lower, upper, work, merged: folder(room, "merged") };
}

roomTest(
  "an overlay is mounted, written through, and unmounted",
  async (room) => {
    const { lower, upper, work, merged } = overlayFolders(room);
    const data = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    linux.mount(merged, { source: "overlay", fstype: "overlay", data });
    try {
      assert.equal(linux.fstatat(AT.FDCWD, merged, 0).isMountRoot, true);
      writeFileSync(join(merged, "a"), "upper");
    } finally {
      linux.umount2(merged, 0);
    }
    assert.equal(readFileSync(join(upper, "a"), "utf8"), "upper");
    assert.deepEqual(readdirSync(merged), []);
    await Promise.resolve();
  },
  { needs: ["overlayfs"] },
);

roomTest("refusals of mount and umount2 read as Go's", async (room) => {
  const path = folder(room, "m");
  assert.throws(() => linux.umount2(path, 0), { message: `umount2 ${path}: invalid argument` });
  assert.throws(() => linux.mount(join(path, "no"), { source: "x", fstype: "tmpfs" }), {
    message: `mount ${path}/no: no such file or directory`,
  });
  assert.throws(() => linux.mount(path, { source: "x", fstype: "nosuchfs" }), { errno: "ENODEV" });
  const busy = tmpfs(room, "busy");
  const fd = openSync(busy, "r");
  const message = `umount2 ${busy}: device or resource busy`;
  assert.throws(() => linux.umount2(busy, 0), { errno: "EBUSY", message });
  closeSync(fd);
  await Promise.resolve();
});

roomTest("unmount() says on its own thread what umount2() says", async (room) => {
  const path = folder(room, "m");
  const refusals: readonly [path: string, flags: number, errno: string][] = [
    [path, 0, "EINVAL"],
    [join(path, "no"), 0, "ENOENT"],
    [`${path}\0`, 0, "EINVAL"],
    ["/", 1 << 30, "EINVAL"],
  ];
  // At once: each has the errno of its own thread.
  const results = await Promise.allSettled(refusals.map(([at, flags]) => linux.unmount(at, flags)));
  for (const [i, [at, , errno]] of refusals.entries()) {
    const result = results[i];
    assert.ok(result?.status === "rejected" && isErrno(result.reason, errno), at);
  }
  const busy = tmpfs(room, "busy");
  const fd = openSync(busy, "r");
  const message = `umount2 ${busy}: device or resource busy`;
  await assert.rejects(linux.unmount(busy, 0), { errno: "EBUSY", message });
  closeSync(fd);
  const other = folder(room, "other");
  linux.mount(other, { source: "tmpfs", fstype: "tmpfs" });
  await linux.unmount(other, 0);
  assert.equal(linux.fstatat(AT.FDCWD, other, 0).isMountRoot, false);
});

roomTest("options longer than a page are refused, not cut off", async (room) => {
  const path = folder(room, "m");
  const data = `size=4m,${"x".repeat(70_000)}`;
  assert.throws(() => linux.mount(path, { source: "t", fstype: "tmpfs", data }), {
    errno: "E2BIG",
  });
  assert.equal(linux.fstatat(AT.FDCWD, path, 0).isMountRoot, false);
  await Promise.resolve();
});

roomTest(
  "the new calls mount an overlay with options of any length, step by step",
  async (room) => {
    const { lower, upper, work, merged } = overlayFolders(room);
    const fs = linux.fsopen("overlay");
    room.resources.defer(() => linux.close(fs));
    linux.fsconfigSetString(fs, "source", "overlay");
    linux.fsconfigSetString(fs, "lowerdir", lower);
    linux.fsconfigSetString(fs, "upperdir", upper);
    linux.fsconfigSetString(fs, "workdir", work);
    assert.throws(() => linux.fsconfigSetString(fs, "nosuchoption", "1"), {
      errno: "EINVAL",
      path: "nosuchoption",
    });
    linux.fsconfigCreate(fs);
    const mount = linux.fsmount(fs, MOUNT_ATTR.NODEV);
    room.resources.defer(() => linux.close(mount));
    linux.moveMount({ dirFd: mount, path: "" }, { dirFd: AT.FDCWD, path: merged });
    room.resources.defer(() => linux.umount2(merged, MNT.DETACH));
    assert.equal(readFileSync(join(merged, "a"), "utf8"), "lower");
    assert.equal(linux.statfs(merged).flags & 4, 4);
    await Promise.resolve();
  },
  { needs: ["overlayfs"] },
);

roomTest("a bind mount becomes read-only, by remount and by attribute of a clone", async (room) => {
  const source = tmpfs(room, "source");
  const [remounted, cloned] = [folder(room, "remounted"), folder(room, "cloned")];
  linux.mount(remounted, { source, flags: MS.BIND });
  room.resources.defer(() => linux.umount2(remounted, MNT.DETACH));
  linux.mount(remounted, { flags: MS.BIND | MS.REMOUNT | MS.RDONLY });
  const tree = linux.openTree(AT.FDCWD, source, OPEN_TREE.CLONE);
  room.resources.defer(() => linux.close(tree));
  linux.mountSetattr(tree, "", { set: MOUNT_ATTR.RDONLY });
  linux.moveMount({ dirFd: tree, path: "" }, { dirFd: AT.FDCWD, path: cloned });
  room.resources.defer(() => linux.umount2(cloned, MNT.DETACH));
  for (const path of [remounted, cloned]) {
    assert.throws(() => writeFileSync(join(path, "x"), ""), { code: "EROFS" });
  }
  writeFileSync(join(source, "x"), "");
  await Promise.resolve();
});

roomTest("a mount takes the mapping of a user namespace", async (room) => {
  const source = tmpfs(room, "source");
  writeFileSync(join(source, "file"), "");
  linux.lchown(join(source, "file"), 5, 6);
  // A process in a user namespace of its own, until its stdin ends.
  const [input, output] = [linux.pipe2(0), linux.pipe2(0)];
  const { pid } = spawnProcess({
    path: "/usr/bin/unshare",
    argv: ["unshare", "--user", "sh", "-c", "echo ready; read -r _"],
    env: { PATH: "/usr/bin:/bin" },
    fds: [input.read, output.write, 2],
  });
  for (const fd of [input.read, output.write]) linux.close(fd);
  room.resources.defer(() => linux.close(input.write));
  readSync(output.read, Buffer.alloc(10));
  linux.close(output.read);
  for (const map of ["uid_map", "gid_map"]) writeFileSync(`/proc/${pid}/${map}`, "0 100000 1000");
  const usernsFd = openSync(`/proc/${pid}/ns/user`, "r");
  room.resources.defer(() => closeSync(usernsFd));
  const tree = linux.openTree(AT.FDCWD, source, OPEN_TREE.CLONE);
  room.resources.defer(() => linux.close(tree));
  linux.mountSetattr(tree, "", { set: MOUNT_ATTR.IDMAP, usernsFd });
  const { uid, gid } = linux.fstatat(tree, "file", 0);
  assert.deepEqual([uid, gid], [100_005, 100_006]);
  await Promise.resolve();
});

roomTest("device nodes and whiteouts are made, also beyond eight bits", async (room) => {
  const path = folder(room, "dev");
  linux.mknod(join(path, "whiteout"), S_IF.CHR, { major: 0, minor: 0 });
  linux.mknod(join(path, "null"), S_IF.CHR | 0o600, { major: 1, minor: 3 });
  linux.mknod(join(path, "large"), S_IF.BLK | 0o600, { major: 3000, minor: 700_000 });
  const rdev = (name: string): object => linux.fstatat(AT.FDCWD, join(path, name), 0).rdev;
  assert.deepEqual(["whiteout", "null", "large"].map(rdev), [
    { major: 0, minor: 0 },
    { major: 1, minor: 3 },
    { major: 3000, minor: 700_000 },
  ]);
  assert.equal(statSync(join(path, "null")).rdev, 0x103);
  assert.throws(() => linux.mknod(join(path, "null"), S_IF.CHR, { major: 0, minor: 0 }), {
    errno: "EEXIST",
  });
  await Promise.resolve();
});

roomTest("extended attributes are bytes, of the link and not of its target", async (room) => {
  const path = tmpfs(room, "x");
  const file = join(path, "file");
  writeFileSync(file, "");
  const value = Buffer.from([0, 255, 1, 0]);
  const odd = Buffer.concat([Buffer.from("trusted."), Buffer.from([0xff, 0x28])]);
  linux.lsetxattr(file, "trusted.overlay.opaque", Buffer.from("y"));
  linux.lsetxattr(file, odd, value);
  linux.lsetxattr(file, "trusted.empty", Buffer.alloc(0));
  assert.deepEqual(linux.lgetxattr(file, odd), value);
  assert.deepEqual(linux.lgetxattr(file, "trusted.empty"), Buffer.alloc(0));
  assert.equal(linux.lgetxattr(file, "trusted.none"), undefined);
  const listed = linux.llistxattr(file).toSorted((a, b) => a.compare(b));
  const wanted = [Buffer.from("trusted.empty"), Buffer.from("trusted.overlay.opaque"), odd];
  assert.deepEqual(
    listed.filter((name) => name.toString("latin1").startsWith("trusted.")),
    wanted,
  );
  assert.throws(() => linux.lsetxattr(file, odd, value, 1), { errno: "EEXIST" });
  linux.symlinkat("file", AT.FDCWD, join(path, "link"));
  assert.equal(linux.lgetxattr(join(path, "link"), odd), undefined);
  const fd = linux.openat(AT.FDCWD, file, 0);
  linux.fsetxattr(fd, "trusted.fd", value);
  assert.deepEqual(linux.fgetxattr(fd, "trusted.fd"), value);
  assert.equal(linux.flistxattr(fd).length, linux.llistxattr(file).length);
  linux.fremovexattr(fd, "trusted.fd");
  linux.close(fd);
  linux.lremovexattr(file, odd);
  assert.throws(() => linux.lremovexattr(file, odd), { errno: "ENODATA" });
  await Promise.resolve();
});

roomTest("the largest attribute there can be is read whole", async (room) => {
  const path = tmpfs(room, "x");
  const value = Buffer.alloc(65_536, 7);
  linux.lsetxattr(path, "trusted.large", value);
  assert.deepEqual(linux.lgetxattr(path, "trusted.large"), value);
  await Promise.resolve();
});

roomTest("a network namespace is made and left again on the main thread", async (room) => {
  const path = join(room.dir, "netns");
  writeFileSync(path, "");
  const own = readlinkSync("/proc/thread-self/ns/net");
  const back = openSync("/proc/thread-self/ns/net", "r");
  // Nothing asynchronous between the two: a thread of the pool started meanwhile would stay inside.
  linux.unshare(CLONE.NEWNET);
  try {
    linux.mount(path, { source: "/proc/thread-self/ns/net", flags: MS.BIND });
    room.resources.defer(() => linux.umount2(path, MNT.DETACH));
  } finally {
    linux.setns(back, CLONE.NEWNET);
    closeSync(back);
  }
  const inode = String(statSync(path).ino);
  assert.ok(!own.includes(inode));
  for (const task of readdirSync("/proc/self/task")) {
    if (existsSync(`/proc/self/task/${task}`)) {
      assert.equal(readlinkSync(`/proc/self/task/${task}/ns/net`), own);
    }
  }
  await Promise.resolve();
});
