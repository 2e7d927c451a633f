import assert from "node:assert";
import { test } from "node:test";
import { rejects } from "#core/content/suite.ts";
import { digestOf, parseDigest } from "#pkg/digest.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { imageOf } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");

test("an image is what was created, in its namespace only", async (t) => {
  const { metadata, events } = await testStorage(t);
  const given = imageOf("docker.io/library/a:1", "manifest", { a: "1", empty: "" });
  const created = await metadata.images.create(ctx, given);
  assert.deepStrictEqual(created.labels, { a: "1" });
  assert.strictEqual(created.createdAt, created.updatedAt);
  assert.deepStrictEqual(await metadata.images.get(ctx, given.name), created);
  await assert.rejects(metadata.images.get(inNamespace("two"), given.name), {
    code: "not-found",
    message: 'image "docker.io/library/a:1": not found',
  });
  assert.deepStrictEqual(events.topics, ["/images/create"]);
});

test("create() refuses what is there and what makes no sense", async (t) => {
  const { metadata } = await testStorage(t);
  const good = imageOf("a", "m");
  await metadata.images.create(ctx, good);
  await rejects(metadata.images.create(ctx, good), "already-exists");
  const { target } = good;
  const bad = [
    { ...good, name: "" },
    { ...good, name: "b", labels: { k: "x".repeat(4096) } },
    { ...good, name: "b", target: { ...target, sizeBytes: 0 } },
    { ...good, name: "b", target: { ...target, sizeBytes: -1 } },
    { ...good, name: "b", target: { ...target, mediaType: "" } },
    { ...good, name: "b", target: { ...target, digest: "sha256:abc" as typeof target.digest } },
  ];
  for (const image of bad) await rejects(metadata.images.create(ctx, image), "invalid-argument");
  assert.strictEqual((await metadata.images.list(ctx)).length, 1);
});

test("create() and update() take the times they are given", async (t) => {
  const { metadata } = await testStorage(t);
  const created = await metadata.images.create(ctx, imageOf("a", "m"), { createdAt: 5n });
  assert.deepStrictEqual([created.createdAt, created.updatedAt], [5n, 5n]);
  const updated = await metadata.images.update(ctx, imageOf("a", "m"), [], { updatedAt: 7n });
  assert.deepStrictEqual([updated.createdAt, updated.updatedAt], [5n, 7n]);
});

test("update() changes what its mask names", async (t) => {
  const { metadata, events } = await testStorage(t);
  await metadata.images.create(ctx, imageOf("a", "m", { a: "1", b: "2" }));
  const other = imageOf("a", "other", { b: "3", c: "4" });
  const given = { ...other, target: { ...other.target, annotations: { x: "y", z: "w" } } };
  const update = (fields?: string[]) => metadata.images.update(ctx, given, fields);
  assert.deepStrictEqual((await update(["labels.b"])).labels, { a: "1", b: "3" });
  const annotated = await update(["annotations.x"]);
  assert.deepStrictEqual(annotated.target.annotations, { x: "y" });
  assert.strictEqual(annotated.target.digest, digestOf("m"));
  assert.strictEqual((await update(["target"])).target.digest, digestOf("other"));
  assert.deepStrictEqual((await update(["labels"])).labels, { b: "3", c: "4" });
  assert.deepStrictEqual((await update(["annotations"])).target.annotations, { x: "y", z: "w" });
  await rejects(update(["name"]), "invalid-argument");
  await rejects(update(["target.size"]), "invalid-argument");
  const whole = await metadata.images.update(ctx, imageOf("a", "third"));
  assert.deepStrictEqual([whole.labels, whole.target.digest], [{}, digestOf("third")]);
  await rejects(metadata.images.update(ctx, imageOf("unknown", "m")), "not-found");
  assert.strictEqual(events.topics.filter((topic) => topic === "/images/update").length, 6);
});

test("delete() removes an image, with a target only while it points there", async (t) => {
  const { metadata, events } = await testStorage(t);
  const image = imageOf("a", "m");
  await metadata.images.create(ctx, image);
  const target = { ...image.target, digest: parseDigest(digestOf("other")) };
  await rejects(metadata.images.delete(ctx, "a", { target }), "not-found");
  await metadata.images.delete(ctx, "a", { target: image.target });
  await rejects(metadata.images.delete(ctx, "a"), "not-found");
  assert.strictEqual(events.topics.at(-1), "/images/delete");
});

test("list() is ordered by name and filters by upstream's fields", async (t) => {
  const { metadata } = await testStorage(t);
  await metadata.images.create(ctx, imageOf("b", "2", { "x.y/z": "v" }));
  await metadata.images.create(ctx, imageOf("a", "1"));
  const names = async (...filters: string[]): Promise<string[]> =>
    (await metadata.images.list(ctx, filters)).map((image) => image.name);
  assert.deepStrictEqual(await names(), ["a", "b"]);
  assert.deepStrictEqual(await names("name==a"), ["a"]);
  assert.deepStrictEqual(await names("name~=^[ab]$"), ["a", "b"]);
  assert.deepStrictEqual(await names(`target.digest==${digestOf("2")}`), ["b"]);
  assert.deepStrictEqual(await names("target.mediatype~=oci"), ["a", "b"]);
  assert.deepStrictEqual(await names('labels."x.y/z"==v'), ["b"]);
  assert.deepStrictEqual(await names("name==a,name==b"), []);
  assert.deepStrictEqual(await names("name==a", "name==b"), ["a", "b"]);
  await rejects(names("name=="), "invalid-argument");
});
