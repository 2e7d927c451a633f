import assert from "node:assert";
import { stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { readBlob } from "#core/content/content.ts";
import { Context } from "#pkg/context.ts";
import { type Digest, digestHex, digestOf } from "#pkg/digest.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const refs = ["a", "b/c", "d"];
const ref = fc.constantFrom(...refs);
// Few different bytes, so that equal blobs come from different refs.
const bytes = fc.oneof(
  fc.constantFrom("", "x", "xx").map((text) => new TextEncoder().encode(text)),
  fc.uint8Array({ maxLength: 3000 }),
);
const step = fc.oneof(
  fc.record({
    do: fc.constant("write" as const),
    ref,
    bytes,
    then: fc.constantFrom("close", "commit", "wrong size", "wrong digest", "commit" as const),
  }),
  fc.record({ do: fc.constant("abort" as const), ref }),
  fc.record({ do: fc.constant("delete" as const), nth: fc.nat(5) }),
  fc.record({ do: fc.constant("restart" as const) }),
  fc.record({ do: fc.constant("tear" as const), ref, bytes: fc.nat(2000) }),
  fc.record({ do: fc.constant("power cut" as const), ref, bytes: fc.nat(2000) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const ctx = Context.background();

/** What a store with these steps behind it must hold. */
class Model {
  readonly blobs = new Map<Digest, Buffer>();
  readonly ingests = new Map<string, Buffer>();
  /** How many bytes of an ingest a writer's close has synced. */
  readonly synced = new Map<string, number>();
}

async function write(
  store: LocalContentStore,
  model: Model,
  { ref, bytes, then }: Extract<Step, { do: "write" }>,
): Promise<void> {
  const held = model.ingests.get(ref) ?? Buffer.alloc(0);
  await using writer = await store.writer(ctx, { ref });
  assert.strictEqual(writer.status().offset, held.length);
  assert.strictEqual(writer.digest(), digestOf(held));
  await writer.write(bytes);
  const all = Buffer.concat([held, bytes]);
  model.ingests.set(ref, all);
  if (then === "close") {
    model.synced.set(ref, all.length);
    return;
  }
  const options = {
    sizeBytes: all.length + Number(then === "wrong size"),
    expected: digestOf(then === "wrong digest" ? `not ${all.toString("latin1")}` : all),
  };
  const ended = await outcome(writer.commit(ctx, options));
  if (then !== "commit") return assert.strictEqual(ended, "failed-precondition");
  assert.strictEqual(ended, model.blobs.has(digestOf(all)) ? "already-exists" : "ok");
  model.blobs.set(digestOf(all), all);
  model.ingests.delete(ref);
  model.synced.delete(ref);
}

/** Of bytes that nobody synced a power cut may leave the length. */
async function lengthen(dir: string, model: Model, ref: string, bytes: number): Promise<void> {
  const held = model.ingests.get(ref);
  // Not where the disk has lied before: zeros in place of what was synced only a digest tells.
  if (held && held.length >= (model.synced.get(ref) ?? 0)) {
    await truncate(join(dir, "ingest", digestHex(digestOf(ref)), "data"), held.length + bytes);
  }
  for (const [other, all] of model.ingests) {
    model.ingests.set(other, all.subarray(0, model.synced.get(other) ?? 0));
  }
}

/** Of others it leaves nothing, not even of what was synced where the disk lied. */
async function tear(dir: string, model: Model, ref: string, lost: number): Promise<void> {
  const held = model.ingests.get(ref);
  if (!held) return;
  const left = Math.max(0, held.length - lost);
  await truncate(join(dir, "ingest", digestHex(digestOf(ref)), "data"), left);
  model.ingests.set(ref, held.subarray(0, left));
}

async function assertHolds(store: LocalContentStore, model: Model, dir: string): Promise<void> {
  const listed = await Array.fromAsync(store.list(ctx), (info) => info.digest);
  assert.deepStrictEqual(listed.toSorted(), [...model.blobs.keys()].toSorted());
  for (const [digest, bytes] of model.blobs) {
    assert.ok(bytes.equals(await readBlob(ctx, store, { digest }, bytes.length)));
    const file = await stat(join(dir, "blobs/sha256", digestHex(digest)));
    assert.strictEqual(file.mode & 0o777, 0o444);
  }
  const statuses = (await store.listStatuses(ctx)).map(({ ref, offset }) => ({ ref, offset }));
  const expected = [...model.ingests].map(([ref, bytes]) => ({ ref, offset: bytes.length }));
  assert.deepStrictEqual(
    statuses,
    expected.toSorted((a, b) => (a.ref < b.ref ? -1 : 1)),
  );
}

/** Blobs and ingests survive whatever is done to others, and restarts. */
export const target = fuzzTarget({
  name: "ContentStore",
  smokeRuns: 60,
  inputs: fc.array(step, { minLength: 1, maxLength: 20 }),
  async check(steps, dir) {
    const model = new Model();
    let boots = 0;
    let store = await LocalContentStore.open(dir, { bootId: "0" });
    for (const step of steps) {
      switch (step.do) {
        case "write":
          await write(store, model, step);
          break;
        case "abort": {
          const there = model.ingests.delete(step.ref);
          model.synced.delete(step.ref);
          assert.strictEqual(await outcome(store.abort(ctx, step.ref)), there ? "ok" : "not-found");
          break;
        }
        case "delete": {
          const digest = [...model.blobs.keys()][step.nth] ?? digestOf("never there");
          const there = model.blobs.delete(digest);
          assert.strictEqual(await outcome(store.delete(ctx, digest)), there ? "ok" : "not-found");
          break;
        }
        case "restart":
          await store[Symbol.asyncDispose]();
          store = await LocalContentStore.open(dir, { bootId: String(boots) });
          break;
        case "power cut":
          await lengthen(dir, model, step.ref, step.bytes);
          await store[Symbol.asyncDispose]();
          store = await LocalContentStore.open(dir, { bootId: String(++boots) });
          break;
        case "tear":
          await tear(dir, model, step.ref, step.bytes);
      }
    }
    await assertHolds(store, model, dir);
    await store[Symbol.asyncDispose]();
  },
});
