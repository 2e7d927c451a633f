import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { put, rejects } from "#core/content/suite.ts";
import type { Resource, ResourceCollection } from "#core/gc/gc.ts";
import type { Context } from "#pkg/context.ts";
import { failedPrecondition } from "#pkg/errors.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { formatRfc3339, nowNanos } from "#pkg/time.ts";
import {
  type DaemonStorage,
  inNamespace,
  openStorage,
  testStorage,
} from "#test/integration/metadata/daemon-storage.ts";
import { collected, containerOf, imageOf } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");
const hour = 3_600_000_000_000n;

const collect = (storage: DaemonStorage): Promise<unknown> =>
  storage.metadata.collector.scheduleAndWait(ctx);

async function isThere(storage: DaemonStorage, digest: Digest): Promise<boolean> {
  return (await collected(storage.metadata.content.list(ctx, [`digest==${digest}`]))).length === 1;
}

/** A manifest with a config and a layer, unpacked into one snapshot, as a pull leaves it. */
async function pulled(storage: DaemonStorage, at: Context = ctx): Promise<Digest[]> {
  const { metadata, overlay } = storage;
  const layer = await put(at, metadata.content, "layer", Buffer.from("layer"));
  const config = await put(at, metadata.content, "config", Buffer.from("config"));
  const manifest = await put(at, metadata.content, "manifest", Buffer.from("manifest"));
  await overlay.prepare(at, "extract", "");
  await overlay.commit(at, "chain", "extract");
  const links = { "containerd.io/gc.ref.snapshot.overlayfs": "chain" };
  await metadata.content.update(at, { digest: config, labels: links });
  const labels = {
    "containerd.io/gc.ref.content.config": config,
    "containerd.io/gc.ref.content.l.0": layer,
  };
  await metadata.content.update(at, { digest: manifest, labels });
  await metadata.images.create(at, imageOf("img", "manifest"));
  return [manifest, config, layer];
}

test("an image keeps its tree, and its synchronous removal frees all of it", async (t) => {
  const storage = await testStorage(t);
  const { metadata, overlay, content, snapshotter, events } = storage;
  const digests = await pulled(storage);
  await collect(storage);
  for (const digest of digests) assert.ok(await isThere(storage, digest));
  await overlay.stat(ctx, "chain");
  await metadata.images.delete(ctx, "img", { sync: true });
  for (const digest of digests) await rejects(content.info(ctx, digest), "not-found");
  assert.deepStrictEqual(snapshotter.names, []);
  assert.deepStrictEqual(events.topics.slice(-2), ["/images/delete", "/snapshot/remove"]);
});

test("a container keeps its snapshot and the snapshots below", async (t) => {
  const storage = await testStorage(t);
  const { metadata, overlay } = storage;
  await overlay.prepare(ctx, "base-1", "");
  await overlay.commit(ctx, "base", "base-1");
  await overlay.prepare(ctx, "c", "base");
  const more = { snapshotter: "overlayfs", snapshotKey: "c" };
  await metadata.containers.create(ctx, containerOf("c", more));
  await collect(storage);
  assert.strictEqual((await collected(overlay.list(ctx))).length, 2);
  await metadata.containers.delete(ctx, "c");
  await collect(storage);
  assert.deepStrictEqual(await collected(overlay.list(ctx)), []);
});

test("an expired image goes, unless something refers to it", async (t) => {
  const storage = await testStorage(t);
  const { metadata, events } = storage;
  const expired = { "containerd.io/gc.expire": formatRfc3339(nowNanos() - hour) };
  const later = { "containerd.io/gc.expire": formatRfc3339(nowNanos() + hour) };
  await metadata.images.create(ctx, imageOf("old", "m", expired));
  await metadata.images.create(ctx, imageOf("kept", "m", expired));
  await metadata.images.create(ctx, imageOf("later", "m", later));
  await metadata.images.create(ctx, imageOf("badly", "m", { "containerd.io/gc.expire": "soon" }));
  const labels = { "containerd.io/gc.ref.image": "kept" };
  await metadata.containers.create(ctx, containerOf("c", { labels }));
  await collect(storage);
  const names = (await metadata.images.list(ctx)).map((image) => image.name);
  assert.deepStrictEqual(names, ["badly", "kept", "later"]);
  assert.deepStrictEqual(events.topics.at(-1), "/images/delete");
});

test("an expired lease holds nothing and goes", async (t) => {
  const storage = await testStorage(t);
  const { metadata } = storage;
  const labels = { "containerd.io/gc.expire": formatRfc3339(nowNanos() - hour) };
  await metadata.leases.create(ctx, { id: "l", labels });
  const digest = await put(ctx.withLease("l"), metadata.content, "r", Buffer.from("x"));
  await collect(storage);
  assert.deepStrictEqual(await metadata.leases.list(ctx), []);
  assert.strictEqual(await isThere(storage, digest), false);
});

test("a flat lease holds what it names, not what that refers to", async (t) => {
  const storage = await testStorage(t);
  const { metadata } = storage;
  const labels = { "containerd.io/gc.flat": "true" };
  await metadata.leases.create(ctx, { id: "l", labels });
  const child = await put(ctx, metadata.content, "c", Buffer.from("child"));
  const parent = await put(ctx.withLease("l"), metadata.content, "p", Buffer.from("parent"));
  const refs = { "containerd.io/gc.ref.content": child };
  await metadata.content.update(ctx, { digest: parent, labels: refs });
  await collect(storage);
  assert.deepStrictEqual(
    [await isThere(storage, parent), await isThere(storage, child)],
    [true, false],
  );
});

test("an image made while a collection marks keeps what its target refers to, flat lease or not", async (t) => {
  let onMarked = (): void => {};
  const failpoints: Failpoints = {
    hit: (name) => void (name === "metadata.marked" && onMarked()),
  };
  const storage = await testStorage(t, { failpoints });
  const { metadata } = storage;
  await metadata.leases.create(ctx, { id: "l", labels: { "containerd.io/gc.flat": "true" } });
  const layer = await put(ctx, metadata.content, "l", Buffer.from("layer"));
  const leased = ctx.withLease("l");
  const manifest = await put(leased, metadata.content, "m", Buffer.from("manifest"));
  const labels = { "containerd.io/gc.ref.content": layer };
  await metadata.content.update(ctx, { digest: manifest, labels });
  let made: Promise<unknown> = Promise.resolve();
  onMarked = () => {
    onMarked = () => {};
    made = metadata.images.create(ctx, imageOf("img", "manifest"));
  };
  await collect(storage);
  await made;
  assert.deepStrictEqual(
    [await isThere(storage, manifest), await isThere(storage, layer)],
    [true, true],
  );
});

test("an ingest lives a day without a lease, and as long as its lease", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const storage = await testStorage(t);
  const { metadata, content } = storage;
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  for (const at of [ctx, ctx.withLease("l")]) {
    const writer = await metadata.content.writer(at, { ref: at.lease ?? "unleased" });
    await writer.write(Buffer.from("half"));
    await writer.close();
  }
  const refs = async (): Promise<string[]> =>
    (await metadata.content.listStatuses(ctx)).map((status) => status.ref);
  t.mock.timers.tick(23 * 3_600_000);
  await collect(storage);
  assert.deepStrictEqual(await refs(), ["l", "unleased"]);
  t.mock.timers.tick(2 * 3_600_000);
  await collect(storage);
  assert.deepStrictEqual(await refs(), ["l"]);
  assert.strictEqual((await content.listStatuses(ctx)).length, 1);
  await metadata.leases.delete(ctx, "l", { sync: true });
  assert.deepStrictEqual(await content.listStatuses(ctx), []);
});

test("an ingest of a shared blob keeps the blob for its commit", async (t) => {
  const storage = await testStorage(t);
  const { metadata } = storage;
  const other = inNamespace("two");
  const expected = await put(ctx, metadata.content, "r", Buffer.from("shared"));
  await using writer = await metadata.content.writer(other, { ref: "r", expected });
  await metadata.content.delete(ctx, expected);
  await collect(storage);
  await writer.commit(other, { expected });
  await using reader = await metadata.content.open(other, expected);
  assert.strictEqual(Buffer.from(await reader.read(0, 6)).toString(), "shared");
});

test("conditional references hold while the condition does", async (t) => {
  const storage = await testStorage(t);
  const { metadata, overlay } = storage;
  for (const [name, ago] of [
    ["fresh", hour / 60n],
    ["stale", 48n * hour],
  ] as const) {
    await overlay.prepare(ctx, `${name}-1`, "");
    const used = formatRfc3339(nowNanos() - ago);
    const labels = { "containerd.io/gc.cond.value-usedat": used };
    await overlay.commit(ctx, name, `${name}-1`, { labels });
  }
  const cond = "containerd.io/gc.cond.snapshot.overlayfs";
  const labels = {
    [`${cond}/1`]: "usedat<24h|fresh",
    [`${cond}/2`]: "usedat<24h|stale",
    [`${cond}/3`]: "usedat<nonsense,other=1|stale",
  };
  await metadata.images.create(ctx, imageOf("img", "m", labels));
  await collect(storage);
  const names = (await collected(overlay.list(ctx))).map((info) => info.name);
  assert.deepStrictEqual(names, ["fresh"]);
});

test("what backends hold without a record is swept by the first collection", async (t) => {
  const storage = await testStorage(t);
  const { content, snapshotter } = storage;
  const digest = await put(ctx, content, "orphan", Buffer.from("orphan"));
  const writer = await content.writer(ctx, { ref: "one/99/orphan" });
  await writer.close();
  await snapshotter.prepare(ctx, "one/98/k", "");
  await snapshotter.commit(ctx, "one/99/base", "one/98/k");
  for (let i = 0; i < 20; i++) await snapshotter.prepare(ctx, `one/${100 + i}/k`, "one/99/base");
  await collect(storage);
  await rejects(content.info(ctx, digest), "not-found");
  assert.deepStrictEqual(await content.listStatuses(ctx), []);
  assert.deepStrictEqual(snapshotter.names, []);
});

test("a sweep leaves a snapshot that has no record yet", async (t) => {
  const storage = await testStorage(t);
  const { overlay, snapshotter } = storage;
  const made = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  snapshotter.afterChange = async () => {
    made.resolve();
    await go.promise;
  };
  const prepare = overlay.prepare(ctx, "k", "");
  await made.promise;
  await collect(storage);
  assert.strictEqual(snapshotter.names.length, 1);
  go.resolve();
  await prepare;
  assert.strictEqual((await overlay.stat(ctx, "k")).kind, "active");
  await collect(storage);
  assert.strictEqual(snapshotter.names.length, 0);
});

test("what a backend would not give up is swept by the next collection", async (t) => {
  const storage = await testStorage(t);
  const { overlay, snapshotter } = storage;
  await collect(storage);
  await overlay.prepare(ctx, "k", "");
  await overlay.remove(ctx, "k");
  t.mock.method(
    snapshotter,
    "remove",
    async () => {
      throw failedPrecondition("in use");
    },
    { times: 1 },
  );
  await collect(storage);
  assert.strictEqual(snapshotter.names.length, 1);
  await collect(storage);
  assert.deepStrictEqual(snapshotter.names, []);
});

test("a blob whose record fails is swept by the next collection", async (t) => {
  const storage = await testStorage(t);
  const { metadata, content } = storage;
  await collect(storage);
  await using writer = await metadata.content.writer(ctx, { ref: "r" });
  await writer.write(Buffer.from("blob"));
  await rejects(writer.commit(ctx.withLease("none")), "not-found");
  await content.info(ctx, digestOf("blob"));
  await collect(storage);
  await rejects(content.info(ctx, digestOf("blob")), "not-found");
});

test("a sweep leaves a blob that has no record yet", async (t) => {
  const storage = await testStorage(t);
  const { metadata, content } = storage;
  const made = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const open = content.writer.bind(content);
  t.mock.method(content, "writer", async (...args: Parameters<typeof open>) => {
    const writer = await open(...args);
    const commit = writer.commit.bind(writer);
    writer.commit = async (...given) => {
      const digest = await commit(...given);
      made.resolve();
      await go.promise;
      return digest;
    };
    return writer;
  });
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const committed = put(ctx.withLease("l"), metadata.content, "r", Buffer.from("not yet"));
  await made.promise;
  await collect(storage);
  await content.info(ctx, digestOf("not yet"));
  go.resolve();
  const digest = await committed;
  await collect(storage);
  await using reader = await metadata.content.open(ctx, digest);
  assert.strictEqual(Buffer.from(await reader.read(0, 7)).toString(), "not yet");
});

test("pulls, removals and collections at once never cost an image a blob", async (t) => {
  const storage = await testStorage(t, { noSync: true });
  const { metadata } = storage;
  const layers = ["shared layer", "layer 1", "layer 2", "layer 3"];
  let stop = false;
  const pull = async (i: number): Promise<void> => {
    for (let round = 0; round < 15; round++) {
      const lease = await metadata.leases.create(ctx, { id: `${i}-${round}`, labels: {} });
      const leased = ctx.withLease(lease.id);
      const labels: Record<string, string> = {};
      for (const text of [layers[0] ?? "", layers[1 + (i % 3)] ?? ""]) {
        const expected = digestOf(text);
        await bring(metadata.content, leased, `${i} ${text}`, text);
        labels[`containerd.io/gc.ref.content.${Object.keys(labels).length}`] = expected;
      }
      const manifest = await bring(metadata.content, leased, `${i} manifest`, `manifest ${i}`);
      await metadata.content.update(leased, { digest: manifest, labels });
      await metadata.images.create(leased, imageOf(`img-${i}`, `manifest ${i}`));
      await metadata.leases.delete(ctx, lease.id);
      for (const digest of [manifest, ...Object.values(labels)]) {
        await using reader = await metadata.content.open(ctx, digest as Digest); // -- made above
        assert.ok((await reader.read(0, 100)).length > 0);
      }
      await metadata.images.delete(ctx, `img-${i}`);
    }
  };
  const collections = (async () => {
    // A collection that finds nothing waits for nothing, so the others get their turn here.
    for (; !stop; await setImmediate()) await collect(storage);
  })();
  await Promise.all(Array.from({ length: 8 }, (_, i) => pull(i)));
  stop = true;
  await collections;
  await collect(storage);
  assert.deepStrictEqual(await collected(storage.content.list(ctx)), []);
});

async function bring(
  store: DaemonStorage["metadata"]["content"],
  at: Context,
  ref: string,
  text: string,
): Promise<Digest> {
  const expected = digestOf(text);
  try {
    await using writer = await store.writer(at, { ref, expected });
    if (writer.status().offset === 0) await writer.write(Buffer.from(text));
    return await writer.commit(at, { expected });
  } catch (error) {
    if (!String(error).includes("already exists")) throw error;
    return expected;
  }
}

test("a label holds what comes only later, also over a restart", async (t) => {
  const root = await mkdtemp(join(tmpdir(), "gc-later-"));
  t.after(() => rm(root, { recursive: true }));
  const later = Buffer.from("later");
  {
    await using storage = await openStorage(root);
    const { content } = storage.metadata;
    const parent = await put(ctx, content, "p", Buffer.from("parent"));
    const labels = {
      "containerd.io/gc.root": "x",
      "containerd.io/gc.ref.content": digestOf(later),
    };
    await content.update(ctx, { digest: parent, labels });
    await content.delete(ctx, await put(ctx, content, "r", later));
    await collect(storage);
    await content.delete(ctx, await put(ctx, content, "r", later));
  }
  await using storage = await openStorage(root);
  const digest = await put(ctx, storage.metadata.content, "r", later);
  await collect(storage);
  assert.ok(await isThere(storage, digest));
});

test("nodes go with what they were for", async (t) => {
  const storage = await testStorage(t);
  await pulled(storage);
  await storage.metadata.leases.create(ctx, { id: "l", labels: {} });
  const resource = { type: "images", id: "not there" };
  await storage.metadata.leases.addResource(ctx, "l", resource);
  await storage.metadata.leases.deleteResource(ctx, "l", resource);
  await storage.metadata.images.delete(ctx, "img", { sync: true });
  using reader = new DatabaseSync(join(storage.root, "metadata", "meta.sqlite"));
  assert.deepStrictEqual(reader.prepare("SELECT kind, key FROM nodes").all(), []);
});

test("nodes go with the leases and the namespaces that alone named them", async (t) => {
  const storage = await testStorage(t);
  const { metadata } = storage;
  const other = inNamespace("two");
  const resource = { type: "images", id: "not there" };
  const expired = { "containerd.io/gc.expire": formatRfc3339(nowNanos() - hour) };
  await metadata.leases.create(ctx, { id: "deleted", labels: {} });
  await metadata.leases.addResource(ctx, "deleted", resource);
  await metadata.leases.create(other, { id: "expired", labels: expired });
  await metadata.leases.addResource(other, "expired", { ...resource, id: "nor this" });
  await metadata.leases.create(ctx, { id: "left", labels: {} });
  await metadata.leases.addResource(ctx, "left", { ...resource, id: "nor that" });
  const expected = await put(other, metadata.content, "r", Buffer.from("shared"));
  for (const given of [{ ref: "own" }, { ref: "shared", expected }]) {
    const writer = await metadata.content.writer(ctx, given);
    await writer.close();
  }
  await metadata.leases.delete(ctx, "deleted");
  await metadata.namespaces.delete(ctx, "one");
  await collect(storage);
  using reader = new DatabaseSync(join(storage.root, "metadata", "meta.sqlite"));
  const rows = (table: string): unknown[] => reader.prepare(`SELECT * FROM ${table}`).all();
  for (const table of ["nodes", "refs", "leases", "lease_resources", "ingests"]) {
    assert.deepStrictEqual(rows(table), [], table);
  }
});

test("collections that are asked for at once share a run", async (t) => {
  const storage = await testStorage(t);
  const { collector } = storage.metadata;
  const first = collector.scheduleAndWait(ctx);
  const rest = [collector.scheduleAndWait(ctx), collector.scheduleAndWait(ctx)];
  const stats = await Promise.all([first, ...rest]);
  assert.notStrictEqual(stats[0], stats[1]);
  assert.strictEqual(stats[1], stats[2]);
});

test("more kinds of resources are collected along", async (t) => {
  const storage = await testStorage(t);
  const { metadata } = storage;
  const log: string[] = [];
  const resources = ["active", "leased", "labelled", "child", "garbage"].map(
    (key): Resource => ({ namespace: "one", key }),
  );
  const named = (key: string): Resource[] => resources.filter((r) => r.key === key);
  const collection: ResourceCollection = {
    all: () => resources,
    active: () => named("active"),
    leased: (namespace, lease) => (`${namespace}/${lease}` === "one/l" ? named("leased") : []),
    parents: ({ key }) => (key === "child" ? [{ kind: "container", key: "c" }] : []),
    remove: ({ key }) => void log.push(`remove ${key}`),
    finish: async () => void log.push("finish"),
    cancel: () => void log.push("cancel"),
  };
  using registered = metadata.registerResources({ kind: "mount", start: () => collection });
  assert.throws(() => metadata.registerResources({ kind: "mount", start: () => collection }));
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const labels = { "containerd.io/gc.ref.mount/x": "labelled" };
  await metadata.containers.create(ctx, containerOf("c", { labels }));
  await collect(storage);
  assert.deepStrictEqual(log, ["remove garbage", "finish"]);
  log.length = 0;
  await metadata.containers.delete(ctx, "c");
  await metadata.leases.delete(ctx, "l");
  await collect(storage);
  assert.deepStrictEqual(log.toSorted(), [
    "finish",
    "remove child",
    "remove garbage",
    "remove labelled",
    "remove leased",
  ]);
  registered[Symbol.dispose]();
  log.length = 0;
  await collect(storage);
  assert.deepStrictEqual(log, []);
});

test("listeners hear of mutations, and whether there may be garbage", async (t) => {
  const { metadata } = await testStorage(t);
  const heard: boolean[] = [];
  using _listening = metadata.onMutation(({ dirty }) => void heard.push(dirty));
  await metadata.images.create(ctx, imageOf("a", "m"));
  await metadata.images.delete(ctx, "a");
  await metadata.images.create(ctx, imageOf("a", "m"));
  await metadata.collector.scheduleAndWait(ctx);
  await metadata.images.create(ctx, imageOf("b", "m"));
  assert.deepStrictEqual(heard, [false, true, true, false]);
});
