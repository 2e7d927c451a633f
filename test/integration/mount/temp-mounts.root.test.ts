import assert from "node:assert/strict";
import { access, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mountPointsBelow } from "#core/runtime/bundle-mounts.ts";
import { undoTempMounts } from "#core/mount/temp-mounts.ts";
import { Context } from "#pkg/context.ts";
import { MNT } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { type Room, roomTest } from "#test/support/room.ts";

async function mountAt(room: Room, path: string): Promise<void> {
  await mkdir(path, { recursive: true });
  linux.mount(path, { source: "left", fstype: "tmpfs", flags: 0, data: "" });
  room.resources.defer(() => {
    try {
      linux.umount2(path, MNT.DETACH);
    } catch {
      // -- what the test is about has unmounted it
    }
  });
}

const mountsBelow = async (dir: string): Promise<string[]> =>
  mountPointsBelow(await readFile("/proc/self/mountinfo", "utf8"), dir);

roomTest(
  "undoTempMounts() undoes what has its names, stacked and nested, and nothing else",

  async (room) => {
    const dir = join(room.dir, "temp");
    const left = join(dir, "containerd-mountAb3xY9");
    await mountAt(room, left);
    await mountAt(room, left);
    await mountAt(room, join(left, "a", "b"));
    await mountAt(room, join(dir, "ovl-idmappedZz0000"));
    await mkdir(join(dir, "containerd-mountempty0"));
    const others = ["containerd-mount", "containerd-mountAb3xY9z", "t"];
    for (const name of others) await mountAt(room, join(dir, name));
    // Not empty although nothing is mounted: it is left, whatever it is.
    const full = join(dir, "containerd-mountfull00");
    await mkdir(full);
    await writeFile(join(full, "file"), "");
    await undoTempMounts(Context.background(), linux, dir);
    assert.deepEqual(
      await mountsBelow(dir),
      others.map((name) => join(dir, name)),
    );
    assert.deepEqual(
      (await readdir(dir)).toSorted(),
      [...others, "containerd-mountfull00"].toSorted(),
    );
    await access(join(full, "file"));
    await undoTempMounts(Context.background(), linux, join(dir, "none"));
  },
);

roomTest("a daemon undoes the temporary mounts that a killed one left", async (room) => {
  const daemon = await startDaemon(room, { kind: "ours" });
  await daemon.crash();
  const mine = join(room.dir, "daemon");
  const before = await mountsBelow(mine);
  const overlay = join(daemon.root, "io.containerd.snapshotter.v1.overlayfs");
  const dirs = [
    ...[
      "io.containerd.differ.v1.walking",
      "io.containerd.mount-manager.v1.bolt",
      "io.containerd.mount-handler.v1.erofs",
      "io.containerd.podsandbox.controller.v1.podsandbox",
    ].map((plugin) => join(daemon.state, plugin)),
    overlay,
  ];
  for (const dir of dirs) await mountAt(room, join(dir, "containerd-mountAb3xY9"));
  const probe = join(overlay, "overlay-check-Ab3xY9");
  await mkdir(join(probe, "work", "work"), { recursive: true });
  await daemon.start();
  assert.deepEqual(await mountsBelow(mine), before);
  for (const dir of dirs) assert.ok(!(await readdir(dir)).includes("containerd-mountAb3xY9"), dir);
  await assert.rejects(access(probe), { code: "ENOENT" });
});
