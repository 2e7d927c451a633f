import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { Namespaces } from "#api/services/namespaces/v1/namespace_pb.ts";
import { put, rejects } from "#core/content/suite.ts";
import { digestOf } from "#pkg/digest.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { containersService } from "#plugins/services/containers/service.ts";
import { imagesService } from "#plugins/services/images/service.ts";
import { leasesService } from "#plugins/services/leases/service.ts";
import { namespacesService } from "#plugins/services/namespaces/service.ts";
import {
  type DaemonStorage,
  inNamespace,
  testStorage,
} from "#test/integration/metadata/daemon-storage.ts";

const ctx = inNamespace("one");

async function serve(
  t: TestContext,
): Promise<DaemonStorage & { client: <S extends DescService>(desc: S) => Client<S> }> {
  const storage = await testStorage(t);
  const { images, containers, leases, namespaces, collector } = storage.metadata;
  const dir = await mkdtemp(join(tmpdir(), "services-"));
  const server = new GrpcServer({
    services: [
      imagesService(images, collector),
      containersService(containers),
      leasesService(leases),
      namespacesService(namespaces),
    ],
  });
  await server.listen(join(dir, "s"), { mode: 0o660 });
  const transport = new GrpcTransport({ path: join(dir, "s") });
  t.after(async () => {
    await transport.close();
    await server[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  });
  return { ...storage, client: (desc) => createClient(desc, transport) };
}

test("Images: created, updated by mask, listed; deleted with sync frees the content", async (t) => {
  const { client, metadata, content } = await serve(t);
  const images = client(Images);
  const digest = await put(ctx, metadata.content, "r", Buffer.from("manifest"));
  const target = { mediaType: "m", digest, size: 8n, annotations: { a: "1" } };
  const image = { name: "img", labels: { x: "y" }, target };
  const { image: created } = await images.create(ctx, {
    image,
    sourceDateEpoch: { seconds: 7n, nanos: 5 },
  });
  assert.deepStrictEqual(
    [created?.createdAt?.seconds, created?.createdAt?.nanos, created?.target?.size],
    [7n, 5, 8n],
  );
  const { image: updated } = await images.update(ctx, {
    image: { name: "img", labels: { z: "w" } },
    updateMask: { paths: ["labels.z"] },
  });
  assert.deepStrictEqual(updated?.labels, { x: "y", z: "w" });
  assert.strictEqual(updated?.target?.digest, digest);
  assert.strictEqual((await images.list(ctx, { filters: ["name==img"] })).images.length, 1);
  assert.strictEqual((await images.get(ctx, { name: "img" })).image?.labels["z"], "w");
  const wrong = { ...target, digest: digestOf("other") };
  await rejects(images.delete(ctx, { name: "img", target: wrong }), "not-found");
  await images.delete(ctx, { name: "img", sync: true, target });
  await rejects(content.info(ctx, digest), "not-found");
});

test("Images: what is malformed names the field", async (t) => {
  const images = (await serve(t)).client(Images);
  await assert.rejects(images.create(ctx, { image: { name: "" } }), {
    code: "invalid-argument",
    message: "Image.Name required: invalid argument",
  });
  await rejects(images.create(ctx, {}), "invalid-argument");
  await rejects(images.create(ctx, { image: { name: "a" } }), "invalid-argument");
  const target = { mediaType: "m", digest: "sha256:zz", size: 1n };
  await rejects(images.create(ctx, { image: { name: "a", target } }), "invalid-argument");
  const huge = { ...target, digest: digestOf("x"), size: 2n ** 60n };
  await rejects(images.create(ctx, { image: { name: "a", target: huge } }), "invalid-argument");
});

test("Containers: every method", async (t) => {
  const containers = (await serve(t)).client(Containers);
  const spec = { typeUrl: "t", value: new Uint8Array([1, 2, 3]) };
  const container = {
    id: "c",
    labels: { a: "b" },
    image: "img",
    runtime: {
      name: "io.containerd.runc.v2",
      options: { typeUrl: "o", value: new Uint8Array([9]) },
    },
    spec,
    extensions: { e: { typeUrl: "x", value: new Uint8Array([4]) } },
    sandbox: "pod",
  };
  const { container: created } = await containers.create(ctx, { container });
  assert.ok(created?.createdAt);
  assert.deepStrictEqual([...(created.spec?.value ?? [])], [1, 2, 3]);
  const { container: got } = await containers.get(ctx, { id: "c" });
  assert.deepStrictEqual(got, created);
  await containers.create(ctx, { container: { ...container, id: "d" } });
  assert.strictEqual((await containers.list(ctx, { filters: ["id==d"] })).containers.length, 1);
  const streamed: string[] = [];
  for await (const message of containers.listStream(ctx, {})) {
    streamed.push(message.container?.id ?? "");
  }
  assert.deepStrictEqual(streamed, ["c", "d"]);
  const { container: updated } = await containers.update(ctx, {
    container: { id: "c", labels: { a: "" } },
    updateMask: { paths: ["labels.a"] },
  });
  assert.deepStrictEqual(updated?.labels, {});
  await rejects(containers.update(ctx, { container: { id: "" } }), "invalid-argument");
  await rejects(containers.create(ctx, {}), "invalid-argument");
  await containers.delete(ctx, { id: "c" });
  await assert.rejects(containers.get(ctx, { id: "c" }), {
    message: 'container "c" in namespace "one": not found',
  });
});

test("Leases: every method", async (t) => {
  const leases = (await serve(t)).client(Leases);
  const { lease } = await leases.create(ctx, { labels: { a: "b" } });
  assert.ok(lease?.id && lease.createdAt);
  const resource = { type: "content", id: digestOf("x") };
  await leases.addResource(ctx, { id: lease.id, resource });
  const { resources } = await leases.listResources(ctx, { id: lease.id });
  assert.deepStrictEqual(
    resources.map(({ type, id }) => ({ type, id })),
    [resource],
  );
  await leases.deleteResource(ctx, { id: lease.id, resource });
  await rejects(leases.addResource(ctx, { id: lease.id }), "invalid-argument");
  assert.strictEqual((await leases.list(ctx, { filters: ["labels.a==b"] })).leases.length, 1);
  await leases.delete(ctx, { id: lease.id, sync: true });
  assert.strictEqual((await leases.list(ctx, {})).leases.length, 0);
});

test("Namespaces: every method, without a namespace in the call", async (t) => {
  const namespaces = (await serve(t)).client(Namespaces);
  const nowhere = ctx.withNamespace(undefined);
  const { namespace } = await namespaces.create(nowhere, {
    namespace: { name: "n", labels: { a: "1", b: "2" } },
  });
  assert.deepStrictEqual(namespace?.labels, { a: "1", b: "2" });
  const update = (paths: string[], labels: Record<string, string>) =>
    namespaces.update(nowhere, { namespace: { name: "n", labels }, updateMask: { paths } });
  const labels = async () => (await namespaces.get(nowhere, { name: "n" })).namespace?.labels;
  await update(["labels.a", "labels.c"], { c: "3" });
  assert.deepStrictEqual(await labels(), { b: "2", c: "3" });
  await update([], { d: "4" });
  assert.deepStrictEqual(await labels(), { d: "4" });
  await assert.rejects(update(["name"], {}), {
    code: "invalid-argument",
    message: 'cannot update "name" field',
  });
  assert.deepStrictEqual((await namespaces.get(nowhere, { name: "x" })).namespace?.labels, {});
  assert.strictEqual((await namespaces.list(nowhere, {})).namespaces.length, 1);
  await namespaces.delete(nowhere, { name: "n" });
  await rejects(namespaces.delete(nowhere, { name: "n" }), "not-found");
});
