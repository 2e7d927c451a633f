import assert from "node:assert/strict";
import { mkdirSync, readdirSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { put } from "#core/content/suite.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { inNamespace, openStorage } from "#test/integration/metadata/daemon-storage.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const ctx = Context.background();

/** A file system with room for so little. */
function small(room: Room, size: string): string {
  const dir = join(room.dir, "small");
  mkdirSync(dir);
  linux.mount(dir, { source: "tmpfs", fstype: "tmpfs", flags: 0, data: `size=${size}` });
  room.resources.defer(() => linux.umount2(dir, 0));
  return dir;
}

function isFull(error: Error): boolean {
  assert.equal(codeOf(error), "resource-exhausted", error.message);
  assert.match(error.message, /no space left/);
  return true;
}

roomTest("a blob that finds no space says so, and is gone once it is aborted", async (room) => {
  const dir = small(room, "2m");
  const store = await LocalContentStore.open(join(dir, "content"));
  const writer = await store.writer(ctx, { ref: "large" });
  await assert.rejects(writer.write(Buffer.alloc(3 << 20, "x")), isFull);
  // What was lost is not made up for by what still fits.
  await assert.rejects(writer.write(Buffer.from("more")), isFull);
  await assert.rejects(writer.commit(ctx), isFull);
  assert.deepEqual(readdirSync(join(dir, "content/blobs/sha256")), []);
  await store.abort(ctx, "large");
  const digest = await put(ctx, store, "fits", Buffer.alloc(1 << 20, "y"));
  assert.equal((await store.info(ctx, digest)).sizeBytes, 1 << 20);
});

roomTest(
  "records that find no space are refused, and all is well once there is some",
  async (room) => {
    const dir = small(room, "6m");
    await using storage = await openStorage(dir);
    const one = inNamespace("one");
    const { content, leases } = storage.metadata;
    const digest = await put(one, content, "kept", Buffer.from("kept"));
    const { bavail, bsize } = statfsSync(dir);
    const filler = await content.writer(one, { ref: "filler" });
    await filler.write(Buffer.alloc(bavail * bsize - (64 << 10)));
    await filler.close();
    const made: string[] = [];
    const fill = async (): Promise<void> => {
      for (let i = 0; i < 1000; i++) {
        await leases.create(one, { id: `l${i}`, labels: { a: "x".repeat(2000) } });
        made.push(`l${i}`);
      }
    };
    await assert.rejects(fill(), isFull);
    await content.abort(one, "filler");
    const ids = (await leases.list(one)).map(({ id }) => id).toSorted();
    assert.deepEqual(ids, made.toSorted());
    assert.equal((await content.info(one, digest)).sizeBytes, 4);
    await leases.create(one, { id: "after", labels: {} });
  },
);
