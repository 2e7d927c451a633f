import assert from "node:assert";
import { test } from "node:test";
import { GrpcSandboxStore } from "#core/sandbox/store-proxy.ts";
import { sandboxOf, sandboxStoreSuite } from "#core/sandbox/suite.ts";
import { sandboxStoreService } from "#plugins/services/sandbox/store-service.ts";
import { put, rejects } from "#core/content/suite.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { serveOver } from "./served.ts";

const ctx = inNamespace("one");

sandboxStoreSuite("metadata", async (t) => {
  const { metadata } = await testStorage(t);
  return { ctx, store: metadata.sandboxes };
});

sandboxStoreSuite("gRPC proxy of metadata", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await serveOver(t, [sandboxStoreService(metadata.sandboxes)]);
  return { ctx, store: new GrpcSandboxStore(transport) };
});

test("a sandbox is never collected, and keeps what its labels name", async (t) => {
  const { metadata, content } = await testStorage(t);
  const digest = await put(ctx, metadata.content, "ref", Buffer.from("kept"));
  const labels = { "containerd.io/gc.ref.content": digest };
  await metadata.sandboxes.create(ctx, sandboxOf("pod", { labels }));
  await metadata.collector.scheduleAndWait(ctx);
  await content.info(ctx, digest);
  await metadata.sandboxes.get(ctx, "pod");
  await metadata.sandboxes.delete(ctx, "pod");
  await metadata.collector.scheduleAndWait(ctx);
  await rejects(content.info(ctx, digest), "not-found");
});

test("a namespace is deleted with its sandboxes, as upstream", async (t) => {
  const { metadata } = await testStorage(t);
  await metadata.sandboxes.create(ctx, sandboxOf("pod"));
  await metadata.namespaces.delete(ctx, "one");
  assert.deepStrictEqual(await metadata.namespaces.list(ctx), []);
  await rejects(metadata.sandboxes.get(ctx, "pod"), "not-found");
  await metadata.sandboxes.create(ctx, sandboxOf("pod"));
});
