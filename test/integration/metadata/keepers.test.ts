import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { holdingsOf } from "#core/metadata/holdings.ts";
import { findKept, keepersOf } from "#core/metadata/keepers.ts";
import { ReadSnapshot } from "#pkg/sqlite/read-snapshot.ts";
import {
  type DaemonStorage,
  inNamespace,
  openStorage,
} from "#test/integration/metadata/daemon-storage.ts";
import { type GraphObject, idOf, survivors } from "#test/integration/metadata/naive-gc.ts";
import {
  anyGraph,
  build,
  digestOfName,
  leaseResource,
} from "#test/integration/metadata/random-graph.ts";

async function withStorage(use: (storage: DaemonStorage, path: string) => Promise<void>) {
  const root = await mkdtemp(join(tmpdir(), "keepers-"));
  try {
    await using storage = await openStorage(root, { noSync: true });
    await use(storage, join(root, "metadata/meta.sqlite"));
  } finally {
    await rm(root, { recursive: true });
  }
}

test("what a collection leaves has a keeper, and what it takes has none, over random graphs", async () => {
  const property = fc.asyncProperty(anyGraph, (objects) =>
    withStorage(async (storage, path) => {
      for (const object of objects) await build(storage, object);
      const expected = survivors(objects);
      using db = new ReadSnapshot(path);
      const nowMs = Date.now();
      const garbage = new Set<string>();
      for (const { namespace, kind, objects: held } of await holdingsOf(db, nowMs)) {
        for (const { key, isGarbage } of held) {
          if (isGarbage) garbage.add(`${namespace} ${kind} ${key}`);
        }
      }
      for (const object of objects) {
        const { ns, kind, name } = object;
        const key = kind === "content" ? digestOfName(ns, name) : name;
        const fullKind = kind === "snapshot" ? "snapshot/overlayfs" : kind;
        const isKept = expected.has(idOf(object));
        assert.equal(!garbage.has(`${ns} ${fullKind} ${key}`), isKept, `${idOf(object)} in df`);
        if (kind === "lease") continue;
        const kept = findKept(db, key).find((one) => one.namespace === ns && one.kind === fullKind);
        assert.ok(kept, `${idOf(object)} is not found`);
        const keepers = keepersOf(db, kept, nowMs);
        assert.equal(keepers.length > 0, isKept, `${idOf(object)} has ${keepers.length} keepers`);
        for (const { path: way } of keepers) assert.deepEqual(way.at(-1), kept);
      }
    }),
  );
  await fc.assert(property, { numRuns: Number(process.env["GC_RANDOM_RUNS"] ?? 30) });
});

test("every root is named, by a shortest way to it", async () => {
  await withStorage(async (storage, path) => {
    const ctx = inNamespace("one");
    const plain = { ns: "one", refs: [], backRefs: [], root: false, expired: false, flat: false };
    const objects: readonly GraphObject[] = [
      { ...plain, kind: "snapshot", name: "d", holds: [] },
      { ...plain, kind: "snapshot", name: "e", holds: ["snapshot/d"] },
      { ...plain, kind: "content", name: "b", refs: ["snapshot/d"], holds: [] },
      { ...plain, kind: "content", name: "a", refs: ["content/b"], holds: [] },
      { ...plain, kind: "image", name: "c", holds: ["content/a"] },
      { ...plain, kind: "container", name: "a", holds: ["snapshot/e"] },
      { ...plain, kind: "lease", name: "flat", flat: true, holds: ["snapshot/e", "image/c"] },
    ];
    for (const object of objects) await build(storage, object);
    await storage.metadata.leases.create(ctx, { id: "own", labels: {} });
    await storage.metadata.leases.addResource(ctx, "own", leaseResource("one", "content/b"));

    using db = new ReadSnapshot(path);
    const [layer] = findKept(db, "d");
    assert.ok(layer);
    const digests: readonly string[] = [digestOfName("one", "a"), digestOfName("one", "b")];
    const ways = keepersOf(db, layer, Date.now()).map(({ reason, path: way }) => {
      const name = reason.kind === "lease" ? reason.name : reason.kind;
      return [name, ...way.map(({ key }) => (digests.indexOf(key) < 0 ? key : `content ${key}`))];
    });
    const [manifest, configuration] = digests.map((digest) => `content ${digest}`);
    assert.deepEqual(
      ways.toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1)),
      [
        ["flat", "e", "d"],
        ["object", "a", "e", "d"],
        ["object", "c", manifest, configuration, "d"],
        ["own", configuration, "d"],
      ],
    );
    const [image] = findKept(db, "c");
    assert.ok(image);
    const reasons = keepersOf(db, image, Date.now()).map(({ reason }) => reason.kind);
    assert.deepEqual(reasons, ["lease", "object"]);
  });
});

test("a digest is found by its beginning, and what only a label names is not", async () => {
  await withStorage(async (storage, path) => {
    const plain = { backRefs: [], root: false, expired: false, flat: false, holds: [] };
    await build(storage, { ...plain, ns: "one", kind: "content", name: "a", refs: ["content/b"] });
    await build(storage, { ...plain, ns: "two", kind: "content", name: "a", refs: [] });
    using db = new ReadSnapshot(path);
    const found = findKept(db, digestOfName("one", "a").slice(0, 20));
    assert.deepEqual(
      found.map(({ namespace }) => namespace),
      ["one"],
    );
    assert.deepEqual(
      findKept(db, "sha256:").map(({ namespace }) => namespace),
      ["one", "two"],
    );
    assert.deepEqual(findKept(db, digestOfName("one", "b")), []);
    assert.deepEqual(
      found.flatMap((one) => keepersOf(db, one, Date.now())),
      [],
    );
  });
});
