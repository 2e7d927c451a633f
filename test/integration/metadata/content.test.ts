import assert from "node:assert";
import { randomBytes } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ContentCreateSchema } from "#api/events/content_pb.ts";
import { contentSuite, put, rejects } from "#core/content/suite.ts";
import { Context } from "#pkg/context.ts";
import { digestHex, digestOf } from "#pkg/digest.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { collected } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");
const other = inNamespace("two");

for (const policy of ["shared", "isolated"] as const) {
  contentSuite(`metadata over local, ${policy}`, {
    labels: true,
    open: async (t) => {
      const { metadata } = await testStorage(t, { contentSharingPolicy: policy });
      return { ctx, store: metadata.content };
    },
  });
}

test("every call wants a namespace", async (t) => {
  const { metadata } = await testStorage(t);
  const nowhere = Context.background();
  const error = { message: "namespace is required: failed precondition" };
  await assert.rejects(metadata.content.info(nowhere, digestOf("x")), error);
  await assert.rejects(metadata.content.writer(nowhere, { ref: "r" }), error);
  const bad = Context.background({ namespace: "../etc" });
  await rejects(metadata.content.writer(bad, { ref: "r" }), "invalid-argument");
  const reserved = Context.background({ namespace: "version" });
  await rejects(metadata.content.writer(reserved, { ref: "r" }), "invalid-argument");
});

test("a blob of one namespace is not seen in another", async (t) => {
  const { metadata } = await testStorage(t);
  const digest = await put(ctx, metadata.content, "r", Buffer.from("private"));
  await rejects(metadata.content.info(other, digest), "not-found");
  await rejects(metadata.content.open(other, digest), "not-found");
  await rejects(metadata.content.delete(other, digest), "not-found");
  await rejects(metadata.content.status(other, "r"), "not-found");
});

test("shared: a known digest is enough to have the blob", async (t) => {
  const { metadata, events } = await testStorage(t);
  const data = randomBytes(5000);
  const expected = await put(ctx, metadata.content, "r", data);
  await using writer = await metadata.content.writer(other, {
    ref: "r",
    expected,
    totalBytes: 5000,
  });
  assert.strictEqual(writer.status().offset, 5000);
  assert.strictEqual(writer.digest(), expected);
  await writer.commit(other, { expected, sizeBytes: 5000 });
  assert.strictEqual((await metadata.content.info(other, expected)).sizeBytes, 5000);
  assert.deepStrictEqual(events.topics, ["/content/create", "/content/create"]);
});

test("shared: a blob that has gone meanwhile is not committed", async (t) => {
  const { metadata, content } = await testStorage(t);
  const expected = await put(ctx, metadata.content, "r", Buffer.from("base"));
  await using writer = await metadata.content.writer(other, { ref: "r", expected });
  await metadata.content.abort(other, "r");
  await metadata.content.delete(ctx, expected);
  await metadata.collector.scheduleAndWait(ctx);
  await rejects(content.info(ctx, expected), "not-found");
  await rejects(writer.commit(other, { expected }), "not-found");
  assert.deepStrictEqual(await collected(metadata.content.list(other)), []);
});

test("shared: bytes written over a shared blob make another", async (t) => {
  const { metadata } = await testStorage(t);
  const expected = await put(ctx, metadata.content, "r", Buffer.from("base"));
  await using writer = await metadata.content.writer(other, { ref: "r", expected });
  await writer.write(Buffer.from(" and more"));
  assert.strictEqual(writer.status().offset, 13);
  assert.strictEqual(await writer.commit(other), digestOf("base and more"));
  await rejects(metadata.content.info(other, expected), "not-found");
});

test("shared: a blob of another size than expected is not taken over", async (t) => {
  const { metadata } = await testStorage(t);
  const expected = await put(ctx, metadata.content, "r", Buffer.from("base"));
  await using writer = await metadata.content.writer(other, { ref: "r", expected, totalBytes: 9 });
  assert.strictEqual(writer.status().offset, 0);
});

test("isolated: the bytes must be brought", async (t) => {
  const { metadata } = await testStorage(t, { contentSharingPolicy: "isolated" });
  const expected = await put(ctx, metadata.content, "r", Buffer.from("mine"));
  await using writer = await metadata.content.writer(other, { ref: "r", expected });
  assert.strictEqual(writer.status().offset, 0);
  await rejects(writer.commit(other, { expected }), "failed-precondition");
  await using again = await metadata.content.writer(other, { ref: "r", expected });
  await again.write(Buffer.from("mine"));
  assert.strictEqual(await again.commit(other, { expected }), expected);
});

test("isolated: a namespace labelled shareable gives its blobs away", async (t) => {
  const { metadata } = await testStorage(t, { contentSharingPolicy: "isolated" });
  const labels = { "containerd.io/namespace.shareable": "true" };
  await metadata.namespaces.create(ctx, "one", labels);
  const expected = await put(ctx, metadata.content, "r", Buffer.from("given"));
  await using writer = await metadata.content.writer(other, { ref: "r", expected });
  assert.strictEqual(writer.status().offset, 5);
  await writer.commit(other);
  await metadata.content.info(other, expected);
});

test("delete() takes the record, and the other namespace's blob stays", async (t) => {
  const { metadata, events } = await testStorage(t);
  const digest = await put(ctx, metadata.content, "r", Buffer.from("both"));
  await put(other, metadata.content, "r", Buffer.from("both"));
  await metadata.content.delete(ctx, digest);
  await rejects(metadata.content.info(ctx, digest), "not-found");
  await metadata.content.info(other, digest);
  assert.strictEqual(events.topics.at(-1), "/content/delete");
});

test("the event of a commit carries digest, size and media type", async (t) => {
  const { metadata, events } = await testStorage(t);
  const mediaType = "application/vnd.oci.image.layer.v1.tar";
  await using writer = await metadata.content.writer(ctx, { ref: "r", mediaType });
  await writer.write(Buffer.from("abc"));
  await writer.commit(ctx);
  const [event] = events.events;
  assert.strictEqual(event?.namespace, "one");
  const { digest, size, mediaType: told } = fromBinary(ContentCreateSchema, event.event.value);
  assert.deepStrictEqual([digest, size, told], [digestOf("abc"), 3n, mediaType]);
});

test("a commit under an unknown lease fails", async (t) => {
  const { metadata } = await testStorage(t);
  const leased = ctx.withLease("nowhere");
  const error = { message: "lease does not exist: not found" };
  await assert.rejects(metadata.content.writer(leased, { ref: "r" }), error);
});

test("writer() and commit() add ingest and blob to the lease", async (t) => {
  const { metadata } = await testStorage(t);
  const { id } = await metadata.leases.create(ctx, { id: "l", labels: {} });
  const leased = ctx.withLease(id);
  await using writer = await metadata.content.writer(leased, { ref: "r" });
  const resources = () => metadata.leases.listResources(ctx, id);
  assert.deepStrictEqual(await resources(), [{ type: "ingests", id: "r" }]);
  await writer.write(Buffer.from("x"));
  const digest = await writer.commit(leased);
  assert.deepStrictEqual(await resources(), [{ type: "content", id: digest }]);
});

test("writer() that finds the blob adds it to the lease", async (t) => {
  const { metadata } = await testStorage(t);
  const expected = await put(ctx, metadata.content, "r", Buffer.from("x"));
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const leased = ctx.withLease("l");
  await rejects(metadata.content.writer(leased, { ref: "again", expected }), "already-exists");
  const resources = await metadata.leases.listResources(ctx, "l");
  assert.deepStrictEqual(resources, [{ type: "content", id: expected }]);
});

for (const [what, damage] of [
  ["lost", (path: string) => rm(path)],
  ["emptied", (path: string) => rm(path).then(() => writeFile(path, ""))],
] as const) {
  test(`a blob that the disk has ${what} is not found, and can be brought again`, async (t) => {
    const { metadata, root } = await testStorage(t);
    const expected = await put(ctx, metadata.content, "r", Buffer.from("precious"));
    await damage(join(root, "content", "blobs", "sha256", digestHex(expected)));
    await rejects(metadata.content.info(ctx, expected), "not-found");
    await rejects(metadata.content.open(ctx, expected), "not-found");
    const other = inNamespace("other");
    {
      // Nor does another namespace take over what is left of it.
      await using writer = await metadata.content.writer(other, { ref: "o", expected });
      assert.strictEqual(writer.status().offset, 0);
      await rejects(writer.commit(other, { expected }), "failed-precondition");
      await writer.close();
      await metadata.content.abort(other, "o");
    }
    await using writer = await metadata.content.writer(ctx, { ref: "r", expected });
    await writer.write(Buffer.from("precious"));
    await rejects(writer.commit(ctx, { expected }), "already-exists");
    assert.strictEqual((await metadata.content.info(ctx, expected)).sizeBytes, 8);
    await using reader = await metadata.content.open(ctx, expected);
    assert.strictEqual(Buffer.from(await reader.read(0, 8)).toString(), "precious");
  });
}
