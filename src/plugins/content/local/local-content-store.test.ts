import assert from "node:assert";
import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { contentSuite, put, rejects } from "#core/content/suite.ts";
import { Context } from "#pkg/context.ts";
import { digestHex, digestOf } from "#pkg/digest.ts";
import { isErrno } from "#pkg/errors.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";

const ctx = Context.background();

async function tempRoot(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "content-test-"));
  t.after(() => rm(root, { recursive: true }));
  return root;
}

contentSuite("local", {
  labels: false,
  open: async (t) => ({ ctx, store: await LocalContentStore.open(await tempRoot(t)) }),
});

test("blobs and ingests lie where upstream's do", async (t) => {
  const root = await tempRoot(t);
  const store = await LocalContentStore.open(root);
  const digest = await put(ctx, store, "done", Buffer.from("blob"));
  const blob = join(root, "blobs", "sha256", digestHex(digest));
  assert.strictEqual((await stat(blob)).mode & 0o777, 0o444);
  assert.deepStrictEqual(await readdir(join(root, "ingest")), []);
  const writer = await store.writer(ctx, { ref: "open/ref", totalBytes: 10 });
  await writer.write(Buffer.from("half"));
  await writer.close();
  const ingest = join(root, "ingest", digestHex(digestOf("open/ref")));
  const names = (await readdir(ingest)).toSorted();
  assert.deepStrictEqual(names, ["data", "durable", "ref", "startedat", "total", "updatedat"]);
  assert.strictEqual(await readFile(join(ingest, "ref"), "utf8"), "open/ref");
  assert.strictEqual(await readFile(join(ingest, "total"), "utf8"), "10");
  assert.match(await readFile(join(ingest, "startedat"), "utf8"), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
});

test("open() removes ingests whose start was cut short and keeps whole ones", async (t) => {
  const root = await tempRoot(t);
  const first = await LocalContentStore.open(root);
  const writer = await first.writer(ctx, { ref: "whole" });
  await writer.write(Buffer.from("kept"));
  await writer.close();
  await mkdir(join(root, "ingest", "0".repeat(64)));
  await writeFile(join(root, "ingest", "0".repeat(64), "data"), "rubbish");
  const wrong = join(root, "ingest", "1".repeat(64));
  await mkdir(wrong);
  await writeFile(join(wrong, "ref"), "some other ref");
  const store = await LocalContentStore.open(root);
  assert.deepStrictEqual(await readdir(join(root, "ingest")), [digestHex(digestOf("whole"))]);
  assert.strictEqual((await store.status(ctx, "whole")).offset, 4);
});

test("a damaged blob is replaced by the next commit of the whole one", async (t) => {
  const root = await tempRoot(t);
  const store = await LocalContentStore.open(root);
  const digest = await put(ctx, store, "first", Buffer.from("whole"));
  const path = join(root, "blobs", "sha256", digestHex(digest));
  await rm(path);
  await writeFile(path, "");
  assert.strictEqual(await put(ctx, store, "second", Buffer.from("whole")), digest);
  assert.strictEqual(await readFile(path, "utf8"), "whole");
});

test("a reader outlives the deletion of its blob", async (t) => {
  const store = await LocalContentStore.open(await tempRoot(t));
  const digest = await put(ctx, store, "a", Buffer.from("still here"));
  await using reader = await store.open(ctx, digest);
  await store.delete(ctx, digest);
  assert.strictEqual(Buffer.from(await reader.read(0, 100)).toString(), "still here");
});

test("commit() of an ingest that was aborted answers not-found", async (t) => {
  const store = await LocalContentStore.open(await tempRoot(t));
  const writer = await store.writer(ctx, { ref: "a" });
  await writer.write(Buffer.from("x"));
  await store.abort(ctx, "a");
  await rejects(writer.commit(ctx), "not-found");
  await using _again = await store.writer(ctx, { ref: "a" });
});

test("an ingest of another size than it was begun for starts anew", async (t) => {
  const store = await LocalContentStore.open(await tempRoot(t));
  const first = await store.writer(ctx, { ref: "a", totalBytes: 10 });
  await first.write(Buffer.from("12345"));
  await first.close();
  await using second = await store.writer(ctx, { ref: "a", totalBytes: 11 });
  assert.strictEqual(second.status().offset, 0);
  assert.strictEqual(second.status().total, 11);
});

test("open() removes ingests that a crash left without data, or with files that lost theirs", async (t) => {
  const root = await tempRoot(t);
  const first = await LocalContentStore.open(root);
  for (const ref of ["whole", "became a blob", "no start"]) {
    await using writer = await first.writer(ctx, { ref });
    await writer.write(Buffer.from("bytes"));
  }
  const file = (ref: string, name: string): string =>
    join(root, "ingest", digestHex(digestOf(ref)), name);
  await rm(file("became a blob", "data"));
  await writeFile(file("no start", "startedat"), "");
  const store = await LocalContentStore.open(root);
  const statuses = await store.listStatuses(ctx);
  assert.deepStrictEqual(
    statuses.map(({ ref }) => ref),
    ["whole"],
  );
  assert.deepStrictEqual(await readdir(join(root, "ingest")), [digestHex(digestOf("whole"))]);
});

/** The data file of an ingest, as a crash may have left it. */
const dataOf = (root: string, ref: string): string =>
  join(root, "ingest", digestHex(digestOf(ref)), "data");

test("an ingest goes on behind what the disk has, after a power cut, and behind all of it, after a kill", async (t) => {
  const root = await tempRoot(t);
  const first = await LocalContentStore.open(root, { bootId: "first" });
  await using writer = await first.writer(ctx, { ref: "a" });
  await writer.write(Buffer.from("synced"));
  await writer.close();
  await appendFile(dataOf(root, "a"), ", written");

  const killed = await LocalContentStore.open(root, { bootId: "first" });
  assert.strictEqual((await killed.status(ctx, "a")).offset, "synced, written".length);

  // The tail that a power cut tore has the length of what was written, and zeros.
  await truncate(dataOf(root, "a"), "synced".length);
  await truncate(dataOf(root, "a"), "synced, written".length);
  const cut = await LocalContentStore.open(root, { bootId: "second" });
  assert.strictEqual((await cut.status(ctx, "a")).offset, "synced".length);
  await using again = await cut.writer(ctx, { ref: "a" });
  await again.write(Buffer.from(", again"));
  const expected = digestOf("synced, again");
  assert.strictEqual(await again.commit(ctx, { expected }), expected);
});

test("an ingest whose writer never closed starts anew after a power cut, up to its last mark", async (t) => {
  const root = await tempRoot(t);
  const store = await LocalContentStore.open(root, { bootId: "first" });
  await using small = await store.writer(ctx, { ref: "small" });
  await small.write(Buffer.from("never synced"));
  await using large = await store.writer(ctx, { ref: "large" });
  await large.write(Buffer.alloc(33 << 20, 7));
  const mark = join(dirname(dataOf(root, "large")), "durable");
  const marked = Number(await untilThere(() => readFile(mark, "utf8")));
  assert.ok(marked >= 32 << 20 && marked <= 33 << 20);
  const cut = await LocalContentStore.open(root, { bootId: "second" });
  assert.strictEqual((await cut.status(ctx, "small")).offset, 0);
  assert.strictEqual((await cut.status(ctx, "large")).offset, marked);
});

test("what was synced of an ingest that was emptied vouches for nothing", async (t) => {
  const root = await tempRoot(t);
  const store = await LocalContentStore.open(root, { bootId: "first" });
  await using writer = await store.writer(ctx, { ref: "a" });
  await writer.write(Buffer.from("old bytes"));
  await writer.close();
  await using again = await store.writer(ctx, { ref: "a" });
  await again.truncate(0);
  await again.write(Buffer.from("new bytes"));
  const cut = await LocalContentStore.open(root, { bootId: "second" });
  assert.strictEqual((await cut.status(ctx, "a")).offset, 0);
});

async function untilThere<T>(look: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      await nextTurn();
    }
  }
}
