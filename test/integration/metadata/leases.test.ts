import assert from "node:assert";
import { test } from "node:test";
import { put, rejects } from "#core/content/suite.ts";
import { digestOf } from "#pkg/digest.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { imageOf } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");

test("leases are made, listed by filter and deleted", async (t) => {
  const { metadata } = await testStorage(t);
  const { leases } = metadata;
  const made = await leases.create(ctx, { id: "b", labels: { "containerd.io/gc.expire": "x" } });
  const random = await leases.create(ctx, { id: "", labels: { tag: "r" } });
  assert.match(random.id, /^\d+-[A-Za-z0-9_-]{4}$/);
  await rejects(leases.create(ctx, { id: "b", labels: {} }), "already-exists");
  const ids = async (...filters: string[]): Promise<string[]> =>
    (await leases.list(ctx, filters)).map((lease) => lease.id);
  assert.deepStrictEqual((await ids()).toSorted(), [random.id, "b"].toSorted());
  assert.deepStrictEqual(await ids("labels.tag==r"), [random.id]);
  assert.deepStrictEqual((await leases.list(ctx, ["id==b"]))[0], made);
  assert.deepStrictEqual(await leases.list(inNamespace("two")), []);
  await leases.delete(ctx, "b");
  await assert.rejects(leases.delete(ctx, "b"), { message: 'lease "b": not found' });
});

test("resources of every type are added, listed and taken out", async (t) => {
  const { metadata } = await testStorage(t);
  const { leases } = metadata;
  await leases.create(ctx, { id: "l", labels: {} });
  const resources = [
    { type: "content", id: digestOf("not there") },
    { type: "images", id: "docker.io/library/a:1" },
    { type: "ingests", id: "ref" },
    { type: "snapshots/overlayfs", id: "key" },
  ];
  for (const resource of resources.toReversed()) await leases.addResource(ctx, "l", resource);
  assert.deepStrictEqual(await leases.listResources(ctx, "l"), resources);
  for (const resource of resources) await leases.deleteResource(ctx, "l", resource);
  assert.deepStrictEqual(await leases.listResources(ctx, "l"), []);
});

test("resources that make no sense are refused", async (t) => {
  const { metadata } = await testStorage(t);
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const add = (type: string, id: string) => metadata.leases.addResource(ctx, "l", { type, id });
  await assert.rejects(add("sandboxes", "x"), {
    code: "not-implemented",
    message: "resource type sandboxes not supported yet: not implemented",
  });
  await rejects(add("content", "no digest"), "invalid-argument");
  await rejects(add("content/x", digestOf("x")), "invalid-argument");
  await rejects(add("snapshots", "x"), "invalid-argument");
  await rejects(add("snapshots/a/b", "x"), "invalid-argument");
  await rejects(metadata.leases.addResource(ctx, "no", { type: "images", id: "x" }), "not-found");
  await rejects(metadata.leases.listResources(ctx, "no"), "not-found");
});

test("under a lease: an image is added only when it can expire", async (t) => {
  const { metadata } = await testStorage(t);
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const leased = ctx.withLease("l");
  await metadata.images.create(leased, imageOf("stays", "m"));
  const labels = { "containerd.io/gc.expire": "2001-01-01T00:00:00Z" };
  await metadata.images.create(leased, imageOf("expires", "m", labels));
  assert.deepStrictEqual(await metadata.leases.listResources(ctx, "l"), [
    { type: "images", id: "expires" },
  ]);
});

test("delete() with sync frees what only the lease held", async (t) => {
  const { metadata, content } = await testStorage(t);
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const digest = await put(ctx.withLease("l"), metadata.content, "r", Buffer.from("leased"));
  await metadata.collector.scheduleAndWait(ctx);
  await content.info(ctx, digest);
  await metadata.leases.delete(ctx, "l", { sync: true });
  await rejects(content.info(ctx, digest), "not-found");
});
