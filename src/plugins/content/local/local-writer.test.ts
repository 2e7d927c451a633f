import assert from "node:assert";
import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Context } from "#pkg/context.ts";
import { Digester } from "#pkg/digest.ts";
import { CodedError } from "#pkg/errors.ts";
import { noFailpoints } from "#pkg/failpoint.ts";
import { IngestDir } from "#plugins/content/local/ingest.ts";
import { LocalContentWriter } from "#plugins/content/local/local-writer.ts";

const ctx = Context.background();
const piece = Buffer.alloc(4 << 20, "x");

interface Bench {
  readonly ingest: IngestDir;
  readonly writer: LocalContentWriter;
  readonly published: string[];
}

/** A writer whose syncs are `sync`'s. */
async function writerWith(t: TestContext, sync: () => Promise<void>): Promise<Bench> {
  const root = await mkdtemp(join(tmpdir(), "writer-test-"));
  t.after(() => rm(root, { recursive: true }));
  const ingest = new IngestDir(root, "ref");
  await ingest.create(1n, 0);
  const file = await open(ingest.data, "r+");
  const proxy = new Proxy(file, {
    get(target, name) {
      if (name === "datasync") return sync;
      const value: unknown = Reflect.get(target, name);
      const bound: unknown = typeof value === "function" ? value.bind(target) : value;
      return bound;
    },
  });
  const published: string[] = [];
  const host = {
    failpoints: noFailpoints,
    publish: async (_ctx: Context, _ingest: IngestDir, { digest }: { digest: string }) => {
      published.push(digest);
    },
    unlock() {},
  };
  const writer = new LocalContentWriter(host, ingest, {
    file: proxy satisfies FileHandle,
    status: await ingest.status(),
    digester: new Digester(),
    algorithm: "sha256",
  });
  return { ingest, writer, published };
}

test("a large blob goes to the disk while it is written, one sync at a time", async (t) => {
  let running = 0;
  let begun = 0;
  const held = Promise.withResolvers<void>();
  const { writer, published } = await writerWith(t, async () => {
    begun += 1;
    assert.strictEqual(++running, 1);
    await held.promise;
    running -= 1;
  });
  for (let i = 0; i < 20; i++) await writer.write(piece);
  assert.strictEqual(begun, 1);
  held.resolve();
  await writer.commit(ctx);
  assert.strictEqual(begun, 2);
  assert.strictEqual(published.length, 1);
});

test("a blob that the disk did not take while it was written is not committed", async (t) => {
  let isFirst = true;
  const { writer, published } = await writerWith(t, async () => {
    if (!isFirst) return;
    isFirst = false;
    throw new CodedError("unknown", "EIO");
  });
  for (let i = 0; i < 8; i++) await writer.write(piece);
  await assert.rejects(writer.commit(ctx), /^CodedError: sync content: EIO/);
  assert.deepStrictEqual(published, []);
});

test("nor is it said to be held by the disk when its writer is closed", async (t) => {
  let syncs = 0;
  const { writer } = await writerWith(t, async () => {
    if (++syncs === 1) throw new CodedError("unknown", "EIO");
  });
  for (let i = 0; i < 8; i++) await writer.write(piece);
  await writer.close();
  assert.strictEqual(syncs, 1);
});

for (const [when, pieces, end] of [
  ["while it was written", 8, (writer: LocalContentWriter) => writer.close().catch(() => {})],
  ["at its commit", 1, (writer: LocalContentWriter) => writer.commit(ctx).catch(() => {})],
  ["when its writer was closed", 1, (writer: LocalContentWriter) => writer.close().catch(() => {})],
] as const) {
  test(`a blob that the disk did not take ${when} is begun anew`, async (t) => {
    const { ingest, writer, published } = await writerWith(t, async () => {
      throw new CodedError("unknown", "EIO");
    });
    for (let i = 0; i < pieces; i++) await writer.write(piece);
    await end(writer);
    assert.deepStrictEqual(published, []);
    assert.strictEqual((await ingest.status()).offset, 0);
  });
}
