import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { convertImage } from "#core/images/convert-image.ts";
import { imageUsage } from "#core/images/usage.ts";
import { commitBlob } from "#core/images/write-blob.ts";
import { withLease } from "#core/transfer/local.ts";
import { parseDigest } from "#pkg/digest.ts";
import { anyPlatform } from "#pkg/platform-match.ts";
import {
  buildImage,
  digestOf,
  hostPlatform,
  type Image,
  ociArchive,
} from "#test/support/images.ts";
import { FakeRegistry, reference, registryObject } from "./fake-registry.ts";
import { anyOs, type Bench, storeObject, transferBench } from "./local-transfer.ts";

// Manifests and indexes that no honest registry has. Rows M46 to M53 and advisories are named where a test is one.

const indexType = "application/vnd.oci.image.index.v1+json";
const manifestType = "application/vnd.oci.image.manifest.v1+json";
const store = storeObject({ name: reference });

type Hostile = Bench & { readonly registry: FakeRegistry; readonly pull: () => Promise<void> };

async function hostile(t: TestContext, image: Image): Promise<Hostile> {
  const registry = new FakeRegistry(image);
  const bench = await transferBench(t, { openResolver: () => registry });
  const pull = (): Promise<void> => bench.transferrer.transfer(bench.ctx, registryObject(), store);
  return { ...bench, registry, pull };
}

interface Document {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** A document and the descriptor of it, among the blobs. */
function add(blobs: Map<string, Uint8Array>, mediaType: string, document: object): Document {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...document }));
  const digest = digestOf(bytes);
  blobs.set(digest, bytes);
  return { mediaType, digest, size: bytes.length };
}

const hello = buildImage({ layers: [[{ path: "a", content: "a" }]] });

/** An index of the same image, named so often. */
function repeated(count: number, image: Image = hello): Image {
  const blobs = new Map(image.blobs);
  const manifests = Array.from({ length: count }, () => ({
    ...image.target,
    platform: hostPlatform,
  }));
  return { target: add(blobs, indexType, { manifests }), blobs, roles: image.roles };
}

const exhausted = { code: "resource-exhausted", message: /too many descriptors \(limit 10000\)/ };

test("M49: more than 10000 references are refused before any of them is fetched", async (t) => {
  const image = repeated(10_001);
  const { registry, pull, names } = await hostile(t, image);
  await assert.rejects(pull(), exhausted);
  assert.deepEqual(
    registry.fetched.map(({ digest }) => digest),
    [image.target.digest],
  );
  assert.deepEqual(await names(), []);
});

test("M49: the same by push, export, import, conversion and usage", async (t) => {
  const image = repeated(10_001);
  const { ctx, storage, transferrer, importArchive, exportArchive } = await hostile(t, image);
  const { content, images, leases } = storage.metadata;
  await assert.rejects(importArchive(ociArchive(image, reference)), exhausted);
  const { mediaType, digest, size: sizeBytes } = image.target;
  const target = { mediaType, digest: parseDigest(digest), sizeBytes, annotations: {} };
  await withLease(ctx, leases, async (held) => {
    await using writer = await content.writer(held, { ref: "index", totalBytes: sizeBytes });
    await writer.write(image.blobs.get(digest) ?? new Uint8Array());
    await commitBlob(held, writer, { sizeBytes });
    await images.create(held, { name: reference, labels: {}, target });
  });
  await assert.rejects(transferrer.transfer(ctx, store, registryObject()), exhausted);
  await assert.rejects(exportArchive({ name: reference }, { allPlatforms: true }));
  const options = { toOci: true, compression: undefined, platforms: anyPlatform };
  await assert.rejects(convertImage(ctx, content, target, options));
  const all = { platforms: anyPlatform, snapshotters: [] };
  await assert.rejects(imageUsage(ctx, content, target, all), exhausted);
});

test("what an index names again and again is labelled once", async (t) => {
  const { storage, pull } = await hostile(t, repeated(100));
  const { content } = storage.metadata;
  const update = content.update.bind(content);
  const updates: string[] = [];
  content.update = async (ctx, info, fields) => {
    updates.push(info.digest);
    return update(ctx, info, fields);
  };
  await pull();
  const ofManifest = updates.filter((digest) => digest === hello.target.digest);
  // Where it came from, and what it names.
  assert.equal(ofManifest.length, 2);
});

test("layers that are unpacked are counted among the references", async (t) => {
  const layers = Array.from({ length: 101 }, (_, i) => [{ path: "a", content: String(i) }]);
  const image = repeated(100, buildImage({ layers }));
  const { registry, ctx, transferrer } = await hostile(t, image);
  const unpacks = [{ platform: anyOs, snapshotter: "" }];
  const unpacked = { ...store, unpacks };
  await assert.rejects(transferrer.transfer(ctx, registryObject(), unpacked), exhausted);
  // The index and the manifest.
  assert.equal(registry.fetched.length, 2);
});

test("indexes within indexes end at the same limit, however deep and however often repeated", async (t) => {
  const blobs = new Map(hello.blobs);
  let target = hello.target;
  for (let depth = 0; depth < 2; depth++) {
    target = add(blobs, indexType, { manifests: Array.from({ length: 101 }, () => target) });
  }
  const repeating = await hostile(t, { target, blobs, roles: new Map() });
  await assert.rejects(repeating.pull(), exhausted);

  target = hello.target;
  for (let depth = 0; depth < 100; depth++) target = add(blobs, indexType, { manifests: [target] });
  const deep = await hostile(t, { target, blobs, roles: new Map() });
  await deep.pull();
  assert.deepEqual(await deep.names(), [reference]);
});

test("M47, CVE-2021-41190: what a manifest says of its parts is refused before a part is fetched", async (t) => {
  const [config] = [...hello.roles].find(([, role]) => role === "config") ?? [];
  const good = { mediaType: "application/vnd.oci.image.config.v1+json", digest: config, size: 7 };
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ config: { ...good, size: -1 }, layers: [] }, /negative content size \(-1\)/],
    [{ config: { ...good, size: 1.5 }, layers: [] }, /size/],
    [{ config: { ...good, size: 2 ** 60 }, layers: [] }, /size/],
    [{ config: { ...good, digest: "sha256:short" }, layers: [] }, /digest/],
    [{ config: { ...good, digest: "md5:00" }, layers: [] }, /digest/],
    // CVE-2024-3727: a digest is no path.
    [{ config: { ...good, digest: "sha256:../../../x" }, layers: [] }, /digest/],
    [{ config: good, layers: [{ ...good, digest: `sha256:${"A".repeat(64)}` }] }, /digest/],
    // CVE-2021-21285: what is there, and is nothing of what it should be.
    [{ config: null, layers: null }, /config/],
    [{ config: good, layers: [null] }, /layers\.0/],
    [{ config: { ...good, annotations: { a: 1 } }, layers: [] }, /annotations/],
    [{ config: { ...good, urls: "x" }, layers: [] }, /urls/],
    [{ config: good, layers: [], manifests: [] }, /expected manifest but found index/],
    [{ config: good, layers: [], Manifests: [] }, /expected manifest but found index/],
    [{ config: good, layers: [], fsLayers: [] }, /schema 1 not supported/],
    [{ config: good, layers: {} }, /layers/],
    [{ layers: [] }, /config/],
  ];
  for (const [document, message] of cases) {
    const blobs = new Map(hello.blobs);
    const target = add(blobs, manifestType, document);
    const { registry, pull, names } = await hostile(t, { target, blobs, roles: new Map() });
    await assert.rejects(pull(), { code: "invalid-argument", message });
    assert.equal(registry.fetched.length, 1);
    assert.deepEqual(await names(), []);
  }
  for (const text of ["null", "[]", '"x"', "{", "", `${"[".repeat(100_000)}`]) {
    const bytes = Buffer.from(text === "" ? " " : text);
    const target = { mediaType: indexType, digest: digestOf(bytes), size: bytes.length };
    const blobs = new Map([[target.digest, bytes]]);
    const { pull } = await hostile(t, { target, blobs, roles: new Map() });
    await assert.rejects(pull(), { code: "invalid-argument" }, text.slice(0, 10));
  }
});

test("parts of unknown types are kept; annotations of an image are no labels of its content", async (t) => {
  const blobs = new Map<string, Uint8Array>();
  const payload = Buffer.from("payload");
  blobs.set(digestOf(payload), payload).set(digestOf("{}"), Buffer.from("{}"));
  const annotations = {
    "containerd.io/gc.root": "x",
    "containerd.io/snapshot/uidmapping": "0:1:2",
  };
  const target = add(blobs, manifestType, {
    artifactType: "application/x.test",
    annotations,
    config: { mediaType: "application/vnd.oci.empty.v1+json", digest: digestOf("{}"), size: 2 },
    layers: [{ mediaType: "application/x.part", digest: digestOf(payload), size: 7, annotations }],
  });
  const { pull, names, storage, ctx } = await hostile(t, { target, blobs, roles: new Map() });
  await pull();
  assert.deepEqual(await names(), [reference]);
  for await (const { labels } of storage.metadata.content.list(ctx)) {
    for (const key of Object.keys(annotations)) assert.ok(!(key in labels), key);
  }
});
