import assert from "node:assert";
import { test } from "node:test";
import { put, rejects } from "#core/content/suite.ts";
import { Context } from "#pkg/context.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { containerOf, imageOf } from "#test/integration/metadata/fixtures.ts";

const ctx = Context.background();

test("namespaces are made, labelled, listed and deleted", async (t) => {
  const { metadata, events } = await testStorage(t);
  const { namespaces } = metadata;
  await namespaces.create(ctx, "b", { x: "1", empty: "" });
  await namespaces.create(ctx, "a", {});
  await rejects(namespaces.create(ctx, "a", {}), "already-exists");
  await rejects(namespaces.create(ctx, "no/slash", {}), "invalid-argument");
  await rejects(namespaces.create(ctx, "version", {}), "invalid-argument");
  await rejects(namespaces.create(ctx, "c", { k: "x".repeat(4096) }), "invalid-argument");
  assert.deepStrictEqual(await namespaces.list(ctx), [
    { name: "a", labels: {} },
    { name: "b", labels: { x: "1" } },
  ]);
  await namespaces.setLabel(ctx, "b", "y", "2");
  await namespaces.setLabel(ctx, "b", "x", "");
  assert.deepStrictEqual(await namespaces.labels(ctx, "b"), { y: "2" });
  await namespaces.update(ctx, { name: "b", labels: { z: "3" } });
  assert.deepStrictEqual(await namespaces.labels(ctx, "b"), { z: "3" });
  assert.deepStrictEqual(await namespaces.labels(ctx, "unknown"), {});
  await namespaces.delete(ctx, "b");
  await rejects(namespaces.delete(ctx, "b"), "not-found");
  assert.deepStrictEqual(
    events.events.map(({ namespace, topic }) => `${namespace} ${topic}`),
    [
      "b /namespaces/create",
      "a /namespaces/create",
      "b /namespaces/update",
      "b /namespaces/update",
      "b /namespaces/update",
      "b /namespaces/delete",
    ],
  );
});

test("a namespace comes to be with its first write", async (t) => {
  const { metadata } = await testStorage(t);
  await metadata.leases.create(inNamespace("fresh"), { id: "l", labels: {} });
  assert.deepStrictEqual(await metadata.namespaces.list(ctx), [{ name: "fresh", labels: {} }]);
});

test("delete() names what a namespace still has", async (t) => {
  const { metadata, overlay } = await testStorage(t);
  const full = inNamespace("full");
  await metadata.images.create(full, imageOf("a", "m"));
  await put(full, metadata.content, "r", Buffer.from("m"));
  await metadata.containers.create(full, containerOf("c"));
  await overlay.prepare(full, "k", "");
  await assert.rejects(metadata.namespaces.delete(ctx, "full"), {
    code: "failed-precondition",
    message:
      'namespace "full" must be empty, but it still has images, blobs, containers, ' +
      'snapshots on "overlayfs" snapshotter: failed precondition',
  });
});

test("delete() takes leases and ingests with it", async (t) => {
  const { metadata, content } = await testStorage(t);
  const gone = inNamespace("gone");
  await metadata.leases.create(gone, { id: "l", labels: {} });
  const writer = await metadata.content.writer(gone.withLease("l"), { ref: "r" });
  await writer.write(Buffer.from("half"));
  await writer.close();
  await metadata.namespaces.delete(ctx, "gone");
  assert.deepStrictEqual(await metadata.leases.list(gone), []);
  await rejects(metadata.content.status(gone, "r"), "not-found");
  await metadata.collector.scheduleAndWait(ctx);
  assert.deepStrictEqual(await content.listStatuses(ctx), []);
});
