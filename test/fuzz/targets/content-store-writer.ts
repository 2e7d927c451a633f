import assert from "node:assert";
import fc from "fast-check";
import { type ContentStore, type ContentWriter, readBlob } from "#core/content/content.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { inNamespace, openStorage } from "#test/integration/metadata/daemon-storage.ts";
import { collected } from "#test/integration/metadata/fixtures.ts";

const namespaces = ["one", "two"];
const bytes = fc.oneof(
  fc.constantFrom("", "y", "yz").map((text) => new TextEncoder().encode(text)),
  fc.uint8Array({ maxLength: 3000 }),
);
const piece = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("write" as const), bytes }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("truncate" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("reopen" as const) }) },
);
/** The life of one blob: how its bytes come, and whether its writer knows the digest from the start. */
const life = fc.record({
  ns: fc.constantFrom(...namespaces),
  pieces: fc.array(piece, { maxLength: 6 }),
  knowsDigest: fc.boolean(),
  collect: fc.boolean(),
});
type Life = typeof life extends fc.Arbitrary<infer T> ? T : never;

function finalBytes(pieces: Life["pieces"]): Buffer {
  let held: Uint8Array[] = [];
  for (const piece of pieces) {
    if (piece.do === "truncate") held = [];
    if (piece.do === "write") held.push(piece.bytes);
  }
  return Buffer.concat(held);
}

/** Brings the bytes in pieces, over several writers; answers how the commit ended. */
async function bring(store: ContentStore, ref: string, life: Life): Promise<string> {
  const ctx = inNamespace(life.ns);
  const all = finalBytes(life.pieces);
  let held = Buffer.alloc(0);
  let writer: ContentWriter = await store.writer(ctx, { ref });
  try {
    for (const piece of life.pieces) {
      if (piece.do === "write") {
        await writer.write(piece.bytes);
        held = Buffer.concat([held, piece.bytes]);
      } else if (piece.do === "truncate") {
        await writer.truncate(0);
        held = Buffer.alloc(0);
      } else {
        await writer.close();
        writer = await store.writer(ctx, { ref });
      }
      assert.strictEqual(writer.status().offset, held.length);
      assert.strictEqual(writer.digest(), digestOf(held));
    }
    return await outcome(writer.commit(ctx, { sizeBytes: all.length, expected: digestOf(all) }));
  } finally {
    await writer.close();
  }
}

/** A writer that knows its digest: there already, another namespace's, or bytes that are brought. */
async function bringKnown(
  store: ContentStore,
  ref: string,
  { life, isOthers }: { life: Life; isOthers: boolean },
): Promise<string> {
  const ctx = inNamespace(life.ns);
  const all = finalBytes(life.pieces);
  const expected = digestOf(all);
  let ended = "";
  const opened = await outcome(
    (async () => {
      await using writer = await store.writer(ctx, { ref, expected });
      assert.strictEqual(writer.status().offset, isOthers ? all.length : 0);
      if (!isOthers) await writer.write(all);
      ended = await outcome(writer.commit(ctx, { sizeBytes: all.length, expected }));
    })(),
  );
  return opened === "ok" ? ended : opened;
}

/** However a blob is brought, what is committed is what was written, once per namespace, whatever is collected. */
export const target = fuzzTarget({
  name: "ContentStoreWriter",
  smokeRuns: 25,
  inputs: fc.array(life, { minLength: 1, maxLength: 8 }),
  async check(lives, dir) {
    await using storage = await openStorage(dir, { noSync: true });
    const { content, collector, leases } = storage.metadata;
    for (const ns of namespaces) await leases.create(inNamespace(ns), { id: "all", labels: {} });
    const blobs = new Map(namespaces.map((ns) => [ns, new Map<Digest, Buffer>()]));
    for (const [i, life] of lives.entries()) {
      const bytes = finalBytes(life.pieces);
      const digest = digestOf(bytes);
      const there = blobs.get(life.ns)?.has(digest) === true;
      const isOthers = !there && namespaces.some((ns) => blobs.get(ns)?.has(digest));
      const ended = life.knowsDigest
        ? await bringKnown(content, `ref-${i}`, { life, isOthers })
        : await bring(content, `ref-${i}`, life);
      assert.strictEqual(ended, there ? "already-exists" : "ok");
      blobs.get(life.ns)?.set(digest, bytes);
      const resource = { type: "content", id: digest };
      await leases.addResource(inNamespace(life.ns), "all", resource);
      if (life.collect) await collector.scheduleAndWait(inNamespace(life.ns));
    }
    for (const [ns, expected] of blobs) {
      const ctx = inNamespace(ns);
      const listed = (await collected(content.list(ctx))).map((info) => info.digest);
      assert.deepStrictEqual(listed.toSorted(), [...expected.keys()].toSorted());
      for (const [digest, bytes] of expected) {
        assert.ok(bytes.equals(await readBlob(ctx, content, { digest }, bytes.length)));
      }
      assert.deepStrictEqual(await content.listStatuses(ctx), []);
    }
  },
});
