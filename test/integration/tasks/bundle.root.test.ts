import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createBundle, deleteBundle, removeHidden } from "#core/runtime/bundle.ts";
import { MS } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { roomTest } from "#test/support/room.ts";

roomTest("what is mounted as a bundle's root is not removed, whoever missed it", async (room) => {
  const roots = { root: join(room.dir, "root"), state: join(room.dir, "state") };
  const missing = async (): Promise<void> => {};
  const source = join(room.dir, "snapshot");
  await mkdir(source);
  await writeFile(join(source, "precious"), "");
  const mountAt = (path: string): void => {
    linux.mount(path, { source, flags: MS.BIND });
    room.resources.defer(() => linux.umount2(path, 0));
  };
  const bundle = await createBundle(roots, { namespace: "ns", id: "c1", spec: undefined });
  mountAt(join(bundle.path, "rootfs"));
  await assert.rejects(deleteBundle(bundle, missing), /EBUSY.*rootfs/);
  assert.deepEqual(await readdir(source), ["precious"]);

  // As a crash leaves it.
  const hidden = join(roots.state, "other", ".c2");
  await mkdir(join(hidden, "rootfs"), { recursive: true });
  mountAt(join(hidden, "rootfs"));
  await assert.rejects(removeHidden(join(roots.state, "other"), missing), /EBUSY.*rootfs/);
  const next = await createBundle(roots, { namespace: "other", id: "c2", spec: undefined });
  await assert.rejects(deleteBundle(next, missing), /EBUSY.*rootfs/);
  assert.deepEqual(await readdir(source), ["precious"]);
});
