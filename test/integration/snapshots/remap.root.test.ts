import assert from "node:assert/strict";
import { chownSync, lchownSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mount } from "#core/mount/mount.ts";
import { Mounter } from "#core/mount/mounter.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { AT } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const ctx = Context.background();
const [uidMap, gidMap] = ["0:10000:1000,1000:50000:10", "0:20000:65536"];
const labels = {
  "containerd.io/snapshot/uidmapping": uidMap,
  "containerd.io/snapshot/gidmapping": gidMap,
};
const mapping = [`uidmap=${uidMap}`, `gidmap=${gidMap}`];

async function openIn(room: Room, remapIds: boolean): Promise<[Snapshotter, Mounter]> {
  const workers = room.resources.use(new TreeWorkers());
  const root = join(room.dir, "overlayfs");
  const mountOptions = ["index=off"];
  const options = { root, workers, remapIds, mountOptions };
  const snapshotter = room.resources.use(await OverlaySnapshotter.open(ctx, options));
  return [snapshotter, new Mounter({ sys: linux, tempDir: room.dir })];
}

function owner(path: string): string {
  const { uid, gid } = statSync(path);
  return `${uid}:${gid}`;
}

/** Two committed layers; `f` is root's, `g` user 1005's. */
async function commitBase(snapshotter: Snapshotter, mounter: Mounter): Promise<void> {
  let parent = "";
  for (const [name, uid] of [
    ["f", 0],
    ["g", 1005],
  ] as const) {
    await mounter.withTempMount(ctx, await snapshotter.prepare(ctx, "a", parent), async (root) => {
      writeFileSync(join(root, name), "");
      lchownSync(join(root, name), uid, uid);
    });
    await snapshotter.commit(ctx, `base-${name}`, "a");
    parent = `base-${name}`;
  }
}

const optionsOf = (mounts: readonly Mount[]): readonly string[] => mounts[0]?.options ?? [];

roomTest("a snapshot with mappings is mounted with mapped owners", async (room) => {
  const [snapshotter, mounter] = await openIn(room, true);
  await commitBase(snapshotter, mounter);
  const active = await snapshotter.prepare(ctx, "c", "base-g", { labels });
  assert.deepEqual(optionsOf(active).slice(0, 2), mapping);
  assert.deepEqual(await snapshotter.mounts(ctx, "c"), active);
  await mounter.withTempMount(ctx, active, async (root) => {
    assert.deepEqual(
      [owner(root), owner(join(root, "f")), owner(join(root, "g"))],
      ["10000:20000", "10000:20000", "50005:21005"],
    );
    // As the container's root would.
    writeFileSync(join(root, "new"), "");
    chownSync(join(root, "new"), 10_000, 20_000);
  });
  for (const [key, parent] of [
    ["view-1", "base-f"],
    ["view-2", "base-g"],
  ] as const) {
    const view = await snapshotter.view(ctx, key, parent, { labels });
    await mounter.withTempMount(ctx, view, async (root) => {
      assert.equal(owner(join(root, "f")), "10000:20000");
      assert.throws(() => writeFileSync(join(root, "x"), ""), { code: "EROFS" });
    });
  }
  const plain = await snapshotter.prepare(ctx, "plain", "base-g");
  await mounter.withTempMount(ctx, plain, async (root) => {
    assert.equal(owner(join(root, "g")), "1005:1005");
  });
});

roomTest("a snapshot with mappings and no parent belongs to the container's root", async (room) => {
  const [snapshotter, mounter] = await openIn(room, true);
  const mounts = await snapshotter.prepare(ctx, "c", "", { labels });
  assert.deepEqual(optionsOf(mounts), [...mapping, "rw", "rbind"]);
  await mounter.withTempMount(ctx, mounts, async (root) => {
    assert.equal(owner(root), "10000:20000");
    // The host's root has no id inside, and may make nothing there.
    assert.throws(() => linux.mkdirat(AT.FDCWD, join(root, "d"), 0o755), { errno: "EOVERFLOW" });
  });
  await snapshotter.commit(ctx, "n", "c");
  const child = await snapshotter.prepare(ctx, "child", "n", { labels });
  await mounter.withTempMount(ctx, child, async (root) => {
    assert.equal(owner(root), "10000:20000");
  });
});

roomTest("without mapped mounts only the root directory is the container's", async (room) => {
  const [snapshotter, mounter] = await openIn(room, false);
  await commitBase(snapshotter, mounter);
  for (const parent of ["base-g", ""]) {
    const mounts = await snapshotter.prepare(ctx, `c-${parent}`, parent, { labels });
    assert.ok(!optionsOf(mounts).some((option) => /idmap=/.test(option)));
    await mounter.withTempMount(ctx, mounts, async (root) => {
      assert.equal(owner(root), "10000:20000");
      if (parent !== "") assert.equal(owner(join(root, "f")), "0:0");
    });
  }
});

roomTest("mappings that leave out root, or are none, are refused", async (room) => {
  const [snapshotter] = await openIn(room, true);
  for (const [uids, gids, message] of [
    ["666:666:666", "666:666:666", /uidmapping: container ID 0 cannot be mapped to a host ID/],
    ["0:0:65536", "666:0:1", /gidmapping: container ID 0 cannot be mapped to a host ID/],
    ["0:0", "0:0:1", /id mapping "0:0": expected container-id:host-id:size/],
    ["0:0:65536", "0:666:4294967295", /no such range of ids/],
  ] as const) {
    const bad = {
      "containerd.io/snapshot/uidmapping": uids,
      "containerd.io/snapshot/gidmapping": gids,
    };
    await assert.rejects(snapshotter.prepare(ctx, "c", "", { labels: bad }), (error: Error) => {
      assert.match(error.message, message);
      return codeOf(error) === "invalid-argument";
    });
  }
  assert.deepEqual(await Array.fromAsync(snapshotter.list(ctx)), []);
});
