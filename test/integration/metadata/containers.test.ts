import assert from "node:assert";
import { test } from "node:test";
import { rejects } from "#core/content/suite.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { containerOf } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");
const any = (text: string) => ({ typeUrl: "t", value: new TextEncoder().encode(text) });

test("a container is what was created", async (t) => {
  const { metadata, events } = await testStorage(t);
  const given = containerOf("c", {
    labels: { a: "1" },
    runtime: { name: "io.containerd.runc.v2", options: any("options") },
    snapshotter: "overlayfs",
    snapshotKey: "c",
    extensions: { "with space": { typeUrl: "type with space", value: new Uint8Array([0, 255]) } },
    sandbox: "pod",
  });
  const created = await metadata.containers.create(ctx, given);
  const got = await metadata.containers.get(ctx, "c");
  assert.deepStrictEqual(got, created);
  assert.deepStrictEqual(
    { ...got, createdAt: 0n, updatedAt: 0n },
    {
      ...given,
      createdAt: 0n,
      updatedAt: 0n,
    },
  );
  await assert.rejects(metadata.containers.get(ctx, "d"), {
    message: 'container "d" in namespace "one": not found',
  });
  assert.deepStrictEqual(events.topics, ["/containers/create"]);
});

test("create() refuses what is there and what makes no sense", async (t) => {
  const { metadata } = await testStorage(t);
  await metadata.containers.create(ctx, containerOf("c"));
  await assert.rejects(metadata.containers.create(ctx, containerOf("c")), {
    code: "already-exists",
    message: 'container "c": already exists',
  });
  const bad = [
    containerOf("not/an/id"),
    containerOf(""),
    containerOf("d", { runtime: { name: "", options: undefined } }),
    containerOf("d", { spec: undefined }),
    containerOf("d", { snapshotKey: "k" }),
    containerOf("d", { extensions: { "": any("x") } }),
    containerOf("d", { labels: { k: "x".repeat(4096) } }),
  ];
  for (const container of bad) {
    await rejects(metadata.containers.create(ctx, container), "invalid-argument");
  }
});

test("update() changes what its mask names", async (t) => {
  const { metadata } = await testStorage(t);
  const base = { labels: { a: "1" }, extensions: { e: any("1") } };
  await metadata.containers.create(ctx, containerOf("c", base));
  const given = containerOf("c", {
    labels: { b: "2" },
    extensions: { f: any("2") },
    image: "other",
    spec: any("spec"),
    runtime: { name: "another", options: undefined },
  });
  const update = (...fields: string[]) => metadata.containers.update(ctx, given, fields);
  assert.deepStrictEqual((await update("labels.b")).labels, { a: "1", b: "2" });
  assert.deepStrictEqual((await update("extensions.f")).extensions, { e: any("1"), f: any("2") });
  assert.strictEqual((await update("image")).image, "other");
  assert.deepStrictEqual((await update("spec")).spec, any("spec"));
  assert.strictEqual((await update("image")).runtime.name, "io.containerd.runc.v2");
  await rejects(update("runtime"), "invalid-argument");
  await assert.rejects(update(), {
    message: "container.Runtime.Name field is immutable: invalid argument",
  });
  const whole = containerOf("c", { labels: { z: "9" } });
  const replaced = await metadata.containers.update(ctx, whole);
  assert.deepStrictEqual([replaced.labels, replaced.extensions], [{ z: "9" }, {}]);
  const moved = { ...whole, snapshotter: "native" };
  await rejects(metadata.containers.update(ctx, moved), "invalid-argument");
  await rejects(metadata.containers.update(ctx, containerOf("unknown")), "not-found");
});

test("list() filters by upstream's fields", async (t) => {
  const { metadata } = await testStorage(t);
  await metadata.containers.create(ctx, containerOf("b", { labels: { tier: "web" } }));
  await metadata.containers.create(ctx, containerOf("a", { image: "img" }));
  const ids = async (...filters: string[]): Promise<string[]> =>
    (await metadata.containers.list(ctx, filters)).map((container) => container.id);
  assert.deepStrictEqual(await ids(), ["a", "b"]);
  assert.deepStrictEqual(await ids("id==a"), ["a"]);
  assert.deepStrictEqual(await ids("image==img"), ["a"]);
  assert.deepStrictEqual(await ids("labels.tier==web"), ["b"]);
  assert.deepStrictEqual(await ids("labels.tier"), ["b"]);
  assert.deepStrictEqual(await ids('runtime.name=="io.containerd.runc.v2"'), ["a", "b"]);
});

test("delete() removes the record", async (t) => {
  const { metadata, events } = await testStorage(t);
  await metadata.containers.create(ctx, containerOf("c"));
  await metadata.containers.delete(ctx, "c");
  await rejects(metadata.containers.delete(ctx, "c"), "not-found");
  assert.strictEqual(events.topics.at(-1), "/containers/delete");
});
