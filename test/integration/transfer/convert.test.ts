import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { readBlob } from "#core/content/content.ts";
import { convertImage, type ConvertOptions } from "#core/images/convert-image.ts";
import { childrenOf, manifestFor } from "#core/images/manifest.ts";
import { imageUsage } from "#core/images/usage.ts";
import { withLease } from "#core/transfer/local.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { parseDigest } from "#pkg/digest.ts";
import { anyPlatform, platformMatcher } from "#pkg/platform-match.ts";
import {
  buildImage,
  buildIndex,
  digestOf,
  hostPlatform,
  type Image,
  ociArchive,
} from "#test/support/images.ts";
import { type Bench, transferBench } from "./local-transfer.ts";

const name = "registry.test/image:1";
const other = { os: "linux", architecture: "s390x" };
const words = "word ".repeat(10_000);

function image(docker: boolean, platform = hostPlatform): Image {
  const layers = [
    [{ path: "a", content: words + platform.architecture }],
    [{ path: "b", content: "" }],
  ];
  return buildImage({ layers, platform, docker });
}

interface Trial extends Bench {
  readonly target: ImageDescriptor;
  /** Converts, names the result `converted` and collects. */
  readonly convert: (options: Partial<ConvertOptions>) => Promise<ImageDescriptor>;
  readonly read: (descriptor: ImageDescriptor) => Promise<Buffer>;
  readonly children: (descriptor: ImageDescriptor) => Promise<readonly ImageDescriptor[]>;
}

async function trial(t: TestContext, given: Image): Promise<Trial> {
  const bench = await transferBench(t);
  const { content, images, leases, collector } = bench.storage.metadata;
  await bench.importArchive(ociArchive(given, name));
  const { target } = await images.get(bench.ctx, name);
  return {
    ...bench,
    target,
    async convert(options) {
      const defaults = { toOci: false, compression: undefined, platforms: anyPlatform };
      const converted = await withLease(bench.ctx, leases, async (ctx) => {
        const result = await convertImage(ctx, content, target, { ...defaults, ...options });
        await images.delete(ctx, "converted").catch(() => undefined); // -- the first time there is none
        await images.create(ctx, { name: "converted", labels: {}, target: result });
        return result;
      });
      await collector.scheduleAndWait(bench.ctx);
      return converted;
    },
    read: async (descriptor) =>
      Buffer.from(await readBlob(bench.ctx, content, descriptor, 1 << 20)),
    children: (descriptor) => childrenOf(bench.ctx, content, descriptor),
  };
}

test("Docker's types become OCI's, and layers zstd, with the same configuration and files", async (t) => {
  const bench = await trial(t, image(true));
  const { convert, target, children, read } = bench;
  const [config, ...layers] = await children(target);
  const converted = await convert({ toOci: true, compression: "zstd" });
  const oci = "application/vnd.oci.image.";
  assert.equal(converted.mediaType, `${oci}manifest.v1+json`);
  const [newConfig, ...newLayers] = await children(converted);
  assert.deepEqual(newConfig, { ...config, mediaType: `${oci}config.v1+json` });
  for (const [i, layer] of newLayers.entries()) {
    assert.equal(layer.mediaType, `${oci}layer.v1.tar+zstd`);
    const bytes = await read(layer);
    assert.equal(bytes.length, layer.sizeBytes);
    const before = gunzipSync(await read(layers[i] ?? layer));
    assert.ok(zstdDecompressSync(bytes).equals(before));
  }
  const document: unknown = JSON.parse(String(await read(converted)));
  assert.ok(typeof document === "object" && document && "mediaType" in document);
  assert.equal(document.mediaType, converted.mediaType);
  assert.equal((await convert({ toOci: true, compression: "zstd" })).digest, converted.digest);
  const archive = await bench.exportArchive({ name: "converted" });
  const unpacks = [{ platform: hostPlatform, snapshotter: "" }];
  const again = {
    name: "again",
    isPrefix: true,
    allowOverwrite: true,
    addDigest: false,
    skipNamedDigest: false,
  };
  await bench.importArchive(archive, { references: [again], unpacks });
  assert.ok((await bench.names()).includes("converted"));
});

test("layers are inflated, and what has the wanted form already stays as it is", async (t) => {
  const { convert, target, children, read } = await trial(t, image(false));
  const [, ...layers] = await children(target);
  const plain = await convert({ compression: "none" });
  const [, ...plainLayers] = await children(plain);
  for (const [i, layer] of plainLayers.entries()) {
    assert.equal(layer.mediaType, "application/vnd.oci.image.layer.v1.tar");
    assert.ok((await read(layer)).equals(gunzipSync(await read(layers[i] ?? layer))));
  }
  assert.deepEqual(await convert({ compression: "gzip", toOci: true }), target);
  assert.deepEqual(await convert({}), target);
});

test("an index keeps the platforms that are wanted; others need not be here", async (t) => {
  const parts = [hostPlatform, other].map((platform) => ({
    image: image(true, platform),
    platform,
  }));
  const index = buildIndex(parts, { docker: true });
  const missing = new Map(index.blobs);
  for (const [digest, role] of index.roles)
    if (role.startsWith("layer0-s390x")) missing.delete(digest);
  const { convert, children, storage, ctx } = await trial(t, { ...index, blobs: missing });
  const platforms = platformMatcher(hostPlatform);
  const converted = await convert({ toOci: true, compression: "zstd", platforms });
  const manifests = await children(converted);
  assert.equal(converted.mediaType, "application/vnd.oci.image.index.v1+json");
  assert.deepEqual(
    manifests.map(({ platform }) => platform?.architecture),
    [hostPlatform.architecture],
  );
  const { manifest } = await manifestFor(ctx, storage.metadata.content, converted, platforms);
  assert.ok(manifest.layers.every(({ mediaType }) => mediaType.endsWith("+zstd")));
  const windows = platformMatcher({ os: "windows", architecture: "amd64" });
  await assert.rejects(convert({ toOci: true, platforms: windows }), { code: "not-found" });
  await assert.rejects(convert({ compression: "zstd" }), { code: "not-found" });
});

/** The image with a configuration that says something else of its first layer. */
function lying(good: Image): Image {
  const blobs = new Map(good.blobs);
  const [config] = [...good.roles].find(([, role]) => role === "config") ?? [];
  const text = Buffer.from(blobs.get(config ?? "") ?? []).toString();
  const changed = text.replace(/sha256:[0-9a-f]{64}/, `sha256:${"0".repeat(64)}`);
  const digest = digestOf(changed);
  const manifest = Buffer.from(blobs.get(good.target.digest) ?? []).toString();
  const rewritten = manifest.replace(config ?? "", digest);
  blobs.set(digest, Buffer.from(changed)).set(digestOf(rewritten), Buffer.from(rewritten));
  const target = { ...good.target, digest: digestOf(rewritten), size: rewritten.length };
  return { ...good, target, blobs };
}

test("a layer that is not what its configuration says is not converted", async (t) => {
  const good = image(false);
  const both = [
    { image: good, platform: hostPlatform },
    { image: lying(good), platform: other },
  ];
  // Also not where it was converted just now, for a manifest that told the truth of it.
  for (const given of [lying(good), buildIndex(both)]) {
    const { convert, storage, ctx } = await trial(t, given);
    await assert.rejects(convert({ compression: "none" }), { code: "data-loss" });
    assert.deepEqual(await storage.metadata.content.listStatuses(ctx), []);
  }
});

test("indexes within each other end, and what is no image is refused", async (t) => {
  const { storage, ctx } = await trial(t, image(false));
  const { content } = storage.metadata;
  const options = { toOci: true, compression: undefined, platforms: anyPlatform };
  const none = {
    mediaType: "text/plain",
    digest: parseDigest(digestOf("x")),
    sizeBytes: 1,
    annotations: {},
  };
  await assert.rejects(convertImage(ctx, content, none, options), { code: "invalid-argument" });
  let inner = image(false).target;
  const blobs = new Map(image(false).blobs);
  for (let depth = 0; depth < 12; depth++) {
    const mediaType = "application/vnd.oci.image.index.v1+json";
    const bytes = JSON.stringify({ schemaVersion: 2, mediaType, manifests: [inner] });
    inner = { mediaType, digest: digestOf(bytes), size: bytes.length };
    blobs.set(inner.digest, Buffer.from(bytes));
  }
  const nested = await trial(t, { target: inner, blobs, roles: new Map() });
  await assert.rejects(nested.convert({ toOci: true }), /more than 8 indexes within each other/);
});

test("usage counts each blob once, with what is missing and its snapshots beside", async (t) => {
  const parts = [hostPlatform, other].map((platform) => ({
    image: image(false, platform),
    platform,
  }));
  const index = buildIndex(parts);
  const blobs = new Map(index.blobs);
  const [gone] = [...index.roles].find(([, role]) => role === "layer0-s390x") ?? [];
  const goneBytes = blobs.get(gone ?? "")?.length;
  blobs.delete(gone ?? "");
  const { ctx, storage, target } = await trial(t, { ...index, blobs });
  const asked: string[] = [];
  const usage = (_ctx: unknown, key: string) => {
    asked.push(key);
    return Promise.resolve({ sizeBytes: 10, inodes: 1 });
  };
  const found = await imageUsage(ctx, storage.metadata.content, target, {
    platforms: anyPlatform,
    snapshotters: [{ usage }],
  });
  const here = [...blobs.values()].reduce((sum, { length }) => sum + length, 0);
  assert.deepEqual(found, {
    contentBytes: here,
    missingBytes: goneBytes,
    snapshotBytes: 10 * asked.length,
  });
  assert.equal(new Set(asked).size, asked.length);
  assert.equal(asked.length, 4);
});
