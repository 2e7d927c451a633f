import assert from "node:assert";
import { test } from "node:test";
import { rejects } from "#core/content/suite.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { collected } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");

test("keys of the backend name the namespace and are never used twice", async (t) => {
  const { overlay, snapshotter } = await testStorage(t);
  await overlay.prepare(ctx, "layer", "");
  const [first = ""] = snapshotter.names;
  assert.match(first, /^one\/\d+\/layer$/);
  await overlay.remove(ctx, "layer");
  await overlay.prepare(ctx, "layer", "");
  assert.strictEqual(snapshotter.names.length, 2);
  await overlay.prepare(inNamespace("two"), "layer", "");
  assert.strictEqual(snapshotter.names.filter((name) => name.startsWith("two/")).length, 1);
});

test("a chain is prepared, committed, viewed and told of", async (t) => {
  const { overlay, events } = await testStorage(t);
  const mounts = await overlay.prepare(ctx, "a-1", "");
  assert.match(mounts[0]?.source ?? "", /^\/one\/\d+\/a-1$/);
  await overlay.commit(ctx, "a", "a-1", { labels: { x: "1", empty: "" } });
  await overlay.prepare(ctx, "b-1", "a");
  await overlay.view(ctx, "v", "a");
  const infos = await collected(overlay.list(ctx));
  const seen = infos.map(({ name, kind, parent, labels }) => ({ name, kind, parent, labels }));
  assert.deepStrictEqual(seen, [
    { name: "a", kind: "committed", parent: "", labels: { x: "1" } },
    { name: "b-1", kind: "active", parent: "a", labels: {} },
    { name: "v", kind: "view", parent: "a", labels: {} },
  ]);
  assert.deepStrictEqual(await overlay.stat(ctx, "a"), infos[0]);
  assert.strictEqual((await overlay.usage(ctx, "a")).inodes, 1);
  assert.strictEqual((await overlay.mounts(ctx, "v")).length, 1);
  await rejects(overlay.mounts(ctx, "a"), "failed-precondition");
  assert.deepStrictEqual(events.topics, [
    "/snapshot/prepare",
    "/snapshot/commit",
    "/snapshot/prepare",
  ]);
});

test("what is not there is not found, also over another namespace's", async (t) => {
  const { overlay } = await testStorage(t);
  await overlay.prepare(ctx, "k", "");
  const other = inNamespace("two");
  for (const call of [
    overlay.stat(other, "k"),
    overlay.usage(other, "k"),
    overlay.mounts(other, "k"),
    overlay.remove(other, "k"),
    overlay.commit(other, "n", "k"),
    overlay.prepare(other, "x", "k"),
    overlay.update(other, { name: "k", labels: {} }),
  ]) {
    await rejects(call, "not-found");
  }
});

test("one of a name: keys and names share a space", async (t) => {
  const { overlay, snapshotter } = await testStorage(t);
  await overlay.prepare(ctx, "k", "");
  await rejects(overlay.prepare(ctx, "k", ""), "already-exists");
  await overlay.commit(ctx, "n", "k");
  await overlay.prepare(ctx, "k", "n");
  await rejects(overlay.commit(ctx, "n", "k"), "already-exists");
  await rejects(overlay.prepare(ctx, "n", ""), "already-exists");
  assert.strictEqual((await overlay.stat(ctx, "k")).kind, "active");
  assert.strictEqual(snapshotter.names.length, 2);
});

test("a hundred that prepare one key make one", async (t) => {
  const { overlay, snapshotter } = await testStorage(t);
  const all = Array.from({ length: 100 }, () => overlay.prepare(ctx, "k", ""));
  const results = await Promise.allSettled(all);
  assert.strictEqual(results.filter((result) => result.status === "fulfilled").length, 1);
  assert.strictEqual(snapshotter.names.length, 1);
});

test("remove() refuses a parent, and children go first", async (t) => {
  const { overlay, events } = await testStorage(t);
  await overlay.prepare(ctx, "k", "");
  await overlay.commit(ctx, "n", "k");
  await overlay.prepare(ctx, "child", "n");
  await assert.rejects(overlay.remove(ctx, "n"), {
    code: "failed-precondition",
    message: "cannot remove snapshot with child: failed precondition",
  });
  await overlay.remove(ctx, "child");
  await overlay.remove(ctx, "n");
  assert.deepStrictEqual(events.topics.slice(-2), ["/snapshot/remove", "/snapshot/remove"]);
});

test("labels: the backend gets its own, the record all", async (t) => {
  const { overlay, snapshotter } = await testStorage(t);
  const labels = { "containerd.io/snapshot/x": "1", other: "2" };
  await overlay.prepare(ctx, "k", "", { labels });
  const backend = () => snapshotter.stat(ctx, snapshotter.names[0] ?? "");
  assert.deepStrictEqual((await backend()).labels, { "containerd.io/snapshot/x": "1" });
  assert.deepStrictEqual((await overlay.stat(ctx, "k")).labels, labels);
  const update = { "containerd.io/snapshot/x": "3", other: "4" };
  const updated = await overlay.update(ctx, { name: "k", labels: update }, ["labels.other"]);
  assert.deepStrictEqual(updated.labels, { "containerd.io/snapshot/x": "1", other: "4" });
  await overlay.update(ctx, { name: "k", labels: update });
  assert.deepStrictEqual((await backend()).labels, { "containerd.io/snapshot/x": "3" });
  await rejects(overlay.update(ctx, { name: "k", labels: {} }, ["parent"]), "invalid-argument");
  const long = { k: "x".repeat(4096) };
  await rejects(overlay.prepare(ctx, "l", "", { labels: long }), "invalid-argument");
});

test("list() filters by upstream's fields and pages through many", async (t) => {
  const { overlay } = await testStorage(t);
  for (let i = 0; i < 230; i++) await overlay.prepare(ctx, `k${String(i).padStart(3, "0")}`, "");
  await overlay.commit(ctx, "n", "k000", { labels: { a: "b" } });
  const names = async (...filters: string[]): Promise<string[]> =>
    (await collected(overlay.list(ctx, filters))).map((info) => info.name);
  assert.strictEqual((await names()).length, 230);
  assert.deepStrictEqual(await names("kind==committed"), ["n"]);
  assert.deepStrictEqual(await names("labels.a==b"), ["n"]);
  assert.deepStrictEqual(await names("name==k229"), ["k229"]);
  assert.strictEqual((await names('kind==active,parent==""')).length, 229);
});

test("snapshot.ref: a target that is there is answered, and leased", async (t) => {
  const { metadata, overlay } = await testStorage(t);
  await overlay.prepare(ctx, "k", "");
  await overlay.commit(ctx, "chain", "k");
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const labels = { "containerd.io/snapshot.ref": "chain" };
  const prepare = overlay.prepare(ctx.withLease("l"), "extract-1 chain", "", { labels });
  await assert.rejects(prepare, { message: 'target snapshot "chain": already exists' });
  assert.deepStrictEqual(await metadata.leases.listResources(ctx, "l"), [
    { type: "snapshots/overlayfs", id: "chain" },
  ]);
});

test("snapshot.ref: a target that the backend has gets a record", async (t) => {
  const { overlay, snapshotter } = await testStorage(t);
  const times = { createdAt: 5n, updatedAt: 6n };
  const labels = { "containerd.io/snapshot.ref": "chain" };
  const planted = { kind: "committed", name: "remote-7", parent: "", labels, ...times } as const;
  await snapshotter.plant(planted);
  const prepare = overlay.prepare(ctx, "extract", "", { labels: { ...labels, more: "x" } });
  await assert.rejects(prepare, {
    message: 'target snapshot "chain" from snapshotter: already exists',
  });
  const info = await overlay.stat(ctx, "chain");
  assert.deepStrictEqual([info.kind, info.createdAt, info.labels["more"]], ["committed", 5n, "x"]);
  await overlay.prepare(ctx, "on-it", "chain");
  await rejects(overlay.stat(ctx, "extract"), "not-found");
});

test("commit() with a parent rebases one that has none", async (t) => {
  const { overlay, snapshotter } = await testStorage(t);
  await overlay.prepare(ctx, "a-1", "");
  await overlay.commit(ctx, "a", "a-1");
  await overlay.prepare(ctx, "b-1", "");
  await rejects(overlay.commit(ctx, "b", "b-1", { parent: "unknown" }), "not-found");
  await overlay.commit(ctx, "b", "b-1", { parent: "a" });
  assert.strictEqual((await overlay.stat(ctx, "b")).parent, "a");
  const [a, b] = snapshotter.names;
  assert.strictEqual((await snapshotter.stat(ctx, b ?? "")).parent, a);
  await rejects(overlay.remove(ctx, "a"), "failed-precondition");
});

test("a commit that the backend refuses changes nothing", async (t) => {
  const { overlay } = await testStorage(t);
  await overlay.prepare(ctx, "base-1", "");
  await overlay.commit(ctx, "base", "base-1");
  await overlay.view(ctx, "v", "base");
  await rejects(overlay.commit(ctx, "n", "v"), "failed-precondition");
  assert.strictEqual((await overlay.stat(ctx, "v")).kind, "view");
  await rejects(overlay.stat(ctx, "n"), "not-found");
  await overlay.prepare(ctx, "k", "base");
  await overlay.commit(ctx, "n", "k");
});

test("prepare() whose parent is removed meanwhile leaves nothing in the backend", async (t) => {
  const { overlay, snapshotter } = await testStorage(t);
  await overlay.prepare(ctx, "k", "");
  await overlay.commit(ctx, "base", "k");
  snapshotter.beforeChange = async (what) => {
    if (what !== "create") return;
    snapshotter.beforeChange = async () => {};
    await overlay.remove(ctx, "base");
  };
  await rejects(overlay.prepare(ctx, "child", "base"), "not-found");
  assert.strictEqual(snapshotter.names.length, 1);
});

test("under a lease: keys are held, names take their place", async (t) => {
  const { metadata, overlay } = await testStorage(t);
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const leased = ctx.withLease("l");
  const held = async (): Promise<string[]> =>
    (await metadata.leases.listResources(ctx, "l")).map(({ id }) => id);
  await overlay.prepare(leased, "k", "");
  assert.deepStrictEqual(await held(), ["k"]);
  await overlay.commit(leased, "n", "k");
  assert.deepStrictEqual(await held(), ["n"]);
  await overlay.remove(leased, "n");
  assert.deepStrictEqual(await held(), []);
  const unknown = ctx.withLease("unknown");
  await rejects(overlay.prepare(unknown, "x", ""), "not-found");
});
