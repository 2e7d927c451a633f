import assert from "node:assert";
import { randomBytes } from "node:crypto";
import { type TestContext, test } from "node:test";
import { type ContentStore, type ContentWriter, readBlob } from "#core/content/content.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { codeOf, type ErrorCode } from "#pkg/errors.ts";

export interface StoreUnderTest {
  readonly ctx: Context;
  readonly store: ContentStore;
}

export interface SuiteOptions {
  /** Makes an empty store; `t.after` takes it away. */
  readonly open: (t: TestContext) => Promise<StoreUnderTest>;
  /** Whether blobs carry labels. */
  readonly labels: boolean;
}

/** What every content store promises, whatever it is made of. */
export function contentSuite(name: string, options: SuiteOptions): void {
  const run = (what: string, body: (under: StoreUnderTest) => Promise<void>): void => {
    test(`${name}: ${what}`, async (t) => body(await options.open(t)));
  };
  writerSuite(run);
  readerSuite(run);
  ingestSuite(run);
  if (options.labels) labelSuite(run);
  else {
    run("update() refuses, having no labels", async ({ ctx, store }) => {
      const digest = await put(ctx, store, "a", Buffer.from("a"));
      await rejects(store.update(ctx, { digest, labels: {} }), "failed-precondition");
    });
  }
}

type Run = (what: string, body: (under: StoreUnderTest) => Promise<void>) => void;

export async function put(
  ctx: Context,
  store: ContentStore,
  ref: string,
  data: Uint8Array,
): Promise<Digest> {
  await using writer = await store.writer(ctx, { ref });
  await writer.write(data);
  return await writer.commit(ctx);
}

export async function rejects(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(codeOf(error), code, String(error));
    return true;
  });
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function read(ctx: Context, store: ContentStore, digest: Digest): Promise<Buffer> {
  return Buffer.from(await readBlob(ctx, store, { digest }, 1 << 30));
}

function writerSuite(run: Run): void {
  run("what was written is read back, of any size", async ({ ctx, store }) => {
    for (const size of [0, 1, 1 << 20, (1 << 20) + 1, 3_333_333]) {
      const data = randomBytes(size);
      const digest = await put(ctx, store, `size-${size}`, data);
      assert.strictEqual(digest, digestOf(data));
      assert.ok((await read(ctx, store, digest)).equals(data));
      const info = await store.info(ctx, digest);
      assert.strictEqual(info.sizeBytes, size);
      assert.strictEqual(info.digest, digest);
      assert.ok(info.createdAt > 0n && info.updatedAt >= info.createdAt);
    }
  });

  run("commit() takes the size and digest that fit", async ({ ctx, store }) => {
    await using writer = await store.writer(ctx, { ref: "fits" });
    await writer.write(Buffer.from("hello "));
    await writer.write(Buffer.from("world"));
    const expected = digestOf("hello world");
    assert.strictEqual(await writer.commit(ctx, { sizeBytes: 11, expected }), expected);
  });

  run("commit() rejects a blob whose digest differs, and the ingest stays", async (under) => {
    const { ctx, store } = under;
    await using writer = await store.writer(ctx, { ref: "wrong" });
    await writer.write(Buffer.from("content"));
    await rejects(writer.commit(ctx, { expected: digestOf("other") }), "failed-precondition");
    assert.strictEqual((await store.status(ctx, "wrong")).offset, 7);
    await rejects(store.info(ctx, digestOf("content")), "not-found");
    await rejects(store.info(ctx, digestOf("other")), "not-found");
    await using again = await store.writer(ctx, { ref: "wrong" });
    assert.strictEqual(await again.commit(ctx), digestOf("content"));
  });

  run("commit() rejects a size that differs", async ({ ctx, store }) => {
    await using writer = await store.writer(ctx, { ref: "short" });
    await writer.write(Buffer.from("content"));
    await rejects(writer.commit(ctx, { sizeBytes: 8 }), "failed-precondition");
    assert.strictEqual((await store.status(ctx, "short")).offset, 7);
  });

  run("commit() of a blob that is there answers already-exists and drops the ingest", async (u) => {
    const { ctx, store } = u;
    await put(ctx, store, "first", Buffer.from("same"));
    await using writer = await store.writer(ctx, { ref: "second" });
    await writer.write(Buffer.from("same"));
    await rejects(writer.commit(ctx), "already-exists");
    await rejects(store.status(ctx, "second"), "not-found");
    assert.strictEqual((await read(ctx, store, digestOf("same"))).toString(), "same");
  });

  run("commit() of one blob by eight writers makes one of them succeed", async ({ ctx, store }) => {
    const data = randomBytes(100_000);
    const commits = Array.from({ length: 8 }, (_, i) => put(ctx, store, `racer-${i}`, data));
    const results = await Promise.allSettled(commits);
    const won = results.filter((result) => result.status === "fulfilled");
    assert.strictEqual(won.length, 1);
    for (const result of results) {
      if (result.status === "rejected") {
        assert.strictEqual(codeOf(result.reason), "already-exists", String(result.reason));
      }
    }
    assert.ok((await read(ctx, store, digestOf(data))).equals(data));
    assert.deepStrictEqual(await store.listStatuses(ctx), []);
  });

  run("close() beside a commit leaves the commit alone", async ({ ctx, store }) => {
    const writer = await store.writer(ctx, { ref: "both" });
    await writer.write(Buffer.from("both"));
    const [digest] = await Promise.all([writer.commit(ctx), writer.close()]);
    assert.strictEqual((await store.info(ctx, digest)).sizeBytes, 4);
  });

  run("a committed writer is closed", async ({ ctx, store }) => {
    const writer = await store.writer(ctx, { ref: "once" });
    await writer.write(Buffer.from("x"));
    await writer.commit(ctx);
    await assert.rejects(writer.write(Buffer.from("y")));
    await assert.rejects(writer.commit(ctx));
    await writer.close();
  });

  run("writer() with a digest that is there answers already-exists", async ({ ctx, store }) => {
    const expected = await put(ctx, store, "there", Buffer.from("there"));
    await rejects(store.writer(ctx, { ref: "again", expected }), "already-exists");
  });

  run("sha512 is kept where it is expected", async ({ ctx, store }) => {
    const { createHash } = await import("node:crypto");
    const hex = createHash("sha512").update("long").digest("hex");
    const { parseDigest } = await import("#pkg/digest.ts");
    const expected = parseDigest(`sha512:${hex}`);
    await using writer = await store.writer(ctx, { ref: "sha512" });
    await writer.write(Buffer.from("long"));
    assert.strictEqual(await writer.commit(ctx, { expected }), expected);
    assert.strictEqual((await read(ctx, store, expected)).toString(), "long");
  });
}

function readerSuite(run: Run): void {
  run("open() of an unknown digest answers not-found", async ({ ctx, store }) => {
    await rejects(store.open(ctx, digestOf("nothing")), "not-found");
    await rejects(store.info(ctx, digestOf("nothing")), "not-found");
    await rejects(store.delete(ctx, digestOf("nothing")), "not-found");
  });

  run("read() gives any part, short only at the end", async ({ ctx, store }) => {
    const data = randomBytes(2_500_000);
    await using reader = await store.open(ctx, await put(ctx, store, "r", data));
    assert.strictEqual(reader.sizeBytes, data.length);
    for (const [offset, length] of [
      [0, 10],
      [1_048_570, 12],
      [2_499_990, 100],
      [2_500_000, 1],
    ] as const) {
      const part = Buffer.from(await reader.read(offset, length));
      assert.ok(part.equals(data.subarray(offset, offset + length)));
    }
    await rejects(reader.read(2_500_001, 1), "out-of-range");
  });

  run("stream() gives a range in chunks of at most 1 MiB", async ({ ctx, store }) => {
    const data = randomBytes(3 * (1 << 20) + 5);
    await using reader = await store.open(ctx, await put(ctx, store, "s", data));
    const all = await collect(reader.stream());
    assert.ok(all.every((chunk) => chunk.length <= 1 << 20));
    assert.ok(Buffer.concat(all).equals(data));
    const part = Buffer.concat(await collect(reader.stream({ offset: 1_000_000, length: 77 })));
    assert.ok(part.equals(data.subarray(1_000_000, 1_000_077)));
    assert.deepStrictEqual(await collect(reader.stream({ offset: data.length })), []);
  });

  run("list() gives every blob, or those a filter matches", async ({ ctx, store }) => {
    const digests = [];
    for (let i = 0; i < 120; i++) {
      digests.push(await put(ctx, store, `blob-${i}`, Buffer.from(`blob ${i}`)));
    }
    const all = (await collect(store.list(ctx))).map((info) => info.digest);
    assert.deepStrictEqual(all.toSorted(), digests.toSorted());
    const [one, two] = [digests[3], digests[77]];
    const some = await collect(store.list(ctx, [`digest==${one}`, `digest==${two}`]));
    assert.deepStrictEqual(
      some.map((info) => info.digest).toSorted(),
      [one, two].map(String).toSorted(),
    );
    await assert.rejects(collect(store.list(ctx, ["digest==="])), { code: "invalid-argument" });
  });
}

function ingestSuite(run: Run): void {
  run("writer() refuses an empty ref", async ({ ctx, store }) => {
    await rejects(store.writer(ctx, { ref: "" }), "invalid-argument");
  });

  run("one writer at a time holds a ref", async ({ ctx, store }) => {
    const writer = await store.writer(ctx, { ref: "held" });
    await assert.rejects(store.writer(ctx, { ref: "held" }), (error) => {
      assert.strictEqual(codeOf(error), "unavailable");
      assert.match(String(error), /ref \S*held locked for .*: unavailable$/);
      return true;
    });
    await writer.close();
    await using _writer = await store.writer(ctx, { ref: "held" });
  });

  run("an ingest goes on where it was left", async ({ ctx, store }) => {
    const data = randomBytes(2_000_000);
    const first = await store.writer(ctx, { ref: "resumed", totalBytes: data.length });
    await first.write(data.subarray(0, 1_234_567));
    await first.close();
    await first.close();
    const held = await store.status(ctx, "resumed");
    assert.deepStrictEqual(
      [held.ref, held.offset, held.total],
      ["resumed", 1_234_567, data.length],
    );
    await using second = await store.writer(ctx, { ref: "resumed" });
    assert.strictEqual(second.status().offset, 1_234_567);
    assert.strictEqual(second.status().startedAt, held.startedAt);
    await second.write(data.subarray(1_234_567));
    const expected = digestOf(data);
    assert.strictEqual(await second.commit(ctx, { expected, sizeBytes: data.length }), expected);
  });

  run("truncate(0) drops what is held, other sizes are refused", async ({ ctx, store }) => {
    const first = await store.writer(ctx, { ref: "restarted" });
    await first.write(Buffer.from("wrong start, and longer"));
    await first.close();
    await using writer = await store.writer(ctx, { ref: "restarted" });
    await assert.rejects(writer.truncate(3));
    await writer.truncate(0);
    await writer.write(Buffer.from("right"));
    assert.strictEqual(writer.status().offset, 5);
    assert.strictEqual(await writer.commit(ctx, { sizeBytes: 5 }), digestOf("right"));
  });

  run("digest() and status() tell what is held so far", async ({ ctx, store }) => {
    await using writer = await store.writer(ctx, { ref: "so-far", totalBytes: 6 });
    await writer.write(Buffer.from("abc"));
    assert.strictEqual(writer.digest(), digestOf("abc"));
    await writer.write(Buffer.from("def"));
    assert.strictEqual(writer.digest(), digestOf("abcdef"));
    const status = writer.status();
    assert.deepStrictEqual([status.ref, status.offset, status.total], ["so-far", 6, 6]);
    assert.ok(status.updatedAt >= status.startedAt);
  });

  run("abort() drops an ingest", async ({ ctx, store }) => {
    const writer = await store.writer(ctx, { ref: "dropped" });
    await writer.write(Buffer.from("x"));
    await writer.close();
    await store.abort(ctx, "dropped");
    await rejects(store.status(ctx, "dropped"), "not-found");
    await rejects(store.abort(ctx, "dropped"), "not-found");
    await using again = await store.writer(ctx, { ref: "dropped" });
    assert.strictEqual(again.status().offset, 0);
  });

  run("listStatuses() gives the ingests, or those a filter matches", async ({ ctx, store }) => {
    const writers: ContentWriter[] = [];
    for (const ref of ["layer-1", "layer-2", "config-3"]) {
      writers.push(await store.writer(ctx, { ref }));
    }
    const refs = async (filters?: string[]): Promise<string[]> =>
      (await store.listStatuses(ctx, filters)).map((status) => status.ref).toSorted();
    assert.deepStrictEqual(await refs(), ["config-3", "layer-1", "layer-2"]);
    assert.deepStrictEqual(await refs(["ref~=^layer"]), ["layer-1", "layer-2"]);
    for (const writer of writers) await writer.close();
  });
}

function labelSuite(run: Run): void {
  run("labels of a commit are kept, empty ones left out", async ({ ctx, store }) => {
    await using writer = await store.writer(ctx, { ref: "labelled" });
    await writer.write(Buffer.from("labelled"));
    const digest = await writer.commit(ctx, { labels: { a: "1", "b.c/d": "2", empty: "" } });
    assert.deepStrictEqual((await store.info(ctx, digest)).labels, { a: "1", "b.c/d": "2" });
  });

  run("update() replaces all labels, or sets and removes one", async ({ ctx, store }) => {
    const digest = await put(ctx, store, "u", Buffer.from("u"));
    const before = await store.info(ctx, digest);
    const all = await store.update(ctx, { digest, labels: { a: "1", b: "2" } });
    assert.deepStrictEqual(all.labels, { a: "1", b: "2" });
    assert.ok(all.updatedAt >= before.updatedAt);
    assert.strictEqual(all.createdAt, before.createdAt);
    const one = await store.update(ctx, { digest, labels: { b: "3", c: "4" } }, ["labels.b"]);
    assert.deepStrictEqual(one.labels, { a: "1", b: "3" });
    const less = await store.update(ctx, { digest, labels: {} }, ["labels.a"]);
    assert.deepStrictEqual(less.labels, { b: "3" });
    assert.deepStrictEqual((await store.info(ctx, digest)).labels, { b: "3" });
    const none = await store.update(ctx, { digest, labels: {} }, ["labels"]);
    assert.deepStrictEqual(none.labels, {});
  });

  run("update() refuses other fields, unknown blobs and long labels", async ({ ctx, store }) => {
    const digest = await put(ctx, store, "u", Buffer.from("u"));
    await rejects(store.update(ctx, { digest, labels: {} }, ["size"]), "invalid-argument");
    const unknown = digestOf("unknown");
    await rejects(store.update(ctx, { digest: unknown, labels: {} }), "not-found");
    const long = { k: "x".repeat(4096) };
    await rejects(store.update(ctx, { digest, labels: long }), "invalid-argument");
    await using writer = await store.writer(ctx, { ref: "long" });
    await rejects(writer.commit(ctx, { labels: long }), "invalid-argument");
  });

  run("list() filters by labels", async ({ ctx, store }) => {
    const digest = await put(ctx, store, "l1", Buffer.from("1"));
    await put(ctx, store, "l2", Buffer.from("2"));
    await store.update(ctx, { digest, labels: { "containerd.io/x.y": "z" } });
    const found = await collect(store.list(ctx, [`labels."containerd.io/x.y"==z`]));
    assert.deepStrictEqual(
      found.map((info) => info.digest),
      [digest],
    );
  });
}
