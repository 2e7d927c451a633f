import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { RemoteDescriptor } from "#core/remotes/remotes.ts";
import { parseDigest } from "#pkg/digest.ts";
import { buildImage, type Descriptor, type Image } from "#test/support/images.ts";
import { FakeRegistry, reference, registryObject } from "./fake-registry.ts";
import { ociTypes, Parts } from "./kinds.ts";
import { anyOs, type Bench, storeObject, transferBench } from "./local-transfer.ts";

const unpacks = [{ platform: anyOs, snapshotter: "" }];
const signatureType = "application/x.signature";
const image = buildImage({ layers: [[{ path: "a", content: "a" }]], platform: anyOs });

interface Artifact {
  readonly manifest: Descriptor;
  readonly payload: string;
}

/** What refers to something, as `oras attach` and `cosign` make it. */
function artifact(parts: Parts, type: string, subject: Descriptor | undefined): Artifact {
  const { mediaType, digest, size } = subject ?? { mediaType: "", digest: "", size: 0 };
  const config = parts.add("application/vnd.oci.empty.v1+json", "{}");
  const payload = parts.add("application/x.payload", `${type} of ${digest}`);
  const manifest = parts.document(ociTypes.manifest, {
    artifactType: type,
    config,
    layers: [payload],
    ...(subject && { subject: { mediaType, digest, size } }),
  });
  return { manifest, payload: payload.digest };
}

function listed({ manifest }: Artifact, artifactType: string): RemoteDescriptor {
  const { mediaType, digest, size } = manifest;
  const described = { mediaType, digest: parseDigest(digest), sizeBytes: size };
  return { ...described, artifactType, annotations: {} };
}

interface Trial extends Bench {
  readonly registry: FakeRegistry;
  readonly parts: Parts;
  readonly pull: () => Promise<void>;
  readonly stored: () => Promise<Set<string>>;
}

async function trial(
  t: TestContext,
  referrers: readonly string[] | undefined,
  target: Image = image,
): Promise<Trial> {
  const parts = new Parts();
  for (const [digest, bytes] of target.blobs) parts.blobs.set(digest, bytes);
  const registry = new FakeRegistry({ ...target, blobs: parts.blobs });
  const bench = await transferBench(t, { referrers, openResolver: () => registry });
  const store = storeObject({ name: reference, platforms: [anyOs], manifestLimit: 1, unpacks });
  const { content, collector } = bench.storage.metadata;
  return {
    ...bench,
    registry,
    parts,
    pull: () => bench.transferrer.transfer(bench.ctx, registryObject(), store),
    async stored() {
      await collector.scheduleAndWait(bench.ctx);
      return new Set(await Array.fromAsync(content.list(bench.ctx), ({ digest }) => digest));
    },
  };
}

/** A signature of the image, and one of the signature. */
function sign({ parts, registry }: Trial): readonly Artifact[] {
  const signature = artifact(parts, signatureType, image.target);
  const second = artifact(parts, signatureType, signature.manifest);
  registry.referring.set(image.target.digest, [listed(signature, signatureType)]);
  registry.referring.set(signature.manifest.digest, [listed(second, signatureType)]);
  return [signature, second];
}

test("what refers to an image comes and goes with it, and so does what refers to that", async (t) => {
  const bench = await trial(t, []);
  const artifacts = sign(bench);
  await bench.pull();
  assert.deepEqual(await bench.names(), [reference]);
  const wanted = new Set(bench.parts.blobs.keys());
  assert.deepEqual(await bench.stored(), wanted);
  const { content, images } = bench.storage.metadata;
  const { labels } = await content.info(bench.ctx, parseDigest(image.target.digest));
  const digest = artifacts[0]?.manifest.digest ?? "";
  const key = `containerd.io/gc.ref.content.referrer.sha256.${digest.slice(7, 19)}`;
  assert.equal(labels[key], digest);
  await images.delete(bench.ctx, reference);
  assert.deepEqual(await bench.stored(), new Set());
});

test("nothing is asked for where nothing is wanted, and only the wanted types are taken", async (t) => {
  const none = await trial(t, undefined);
  sign(none);
  none.registry.referrers = () => assert.fail("asked");
  await none.pull();
  assert.deepEqual(await none.stored(), new Set(image.blobs.keys()));

  const some = await trial(t, ["application/x.list"]);
  const [signature] = sign(some);
  const list = artifact(some.parts, "application/x.list", image.target);
  const both = [listed(list, "application/x.list")].concat(
    signature ? [listed(signature, signatureType)] : [],
  );
  some.registry.referring.set(image.target.digest, both);
  await some.pull();
  const stored = await some.stored();
  assert.ok(
    stored.has(parseDigest(list.payload)) && !stored.has(parseDigest(signature?.payload ?? "")),
  );
});

test("of an index, what refers to it and to the chosen manifest is taken", async (t) => {
  const parts = new Parts();
  for (const [digest, bytes] of image.blobs) parts.blobs.set(digest, bytes);
  const other = parts.document(ociTypes.manifest, { config: {}, layers: [] });
  const manifests = [
    { ...other, platform: { os: "linux", architecture: "s390x" } },
    { ...image.target, platform: anyOs },
  ];
  const index = parts.image(parts.document(ociTypes.index, { manifests }));
  const bench = await trial(t, [], index);
  const ofIndex = artifact(bench.parts, signatureType, index.target);
  const ofManifest = artifact(bench.parts, signatureType, image.target);
  const ofOther = artifact(bench.parts, signatureType, other);
  for (const [digest, one] of [
    [index.target.digest, ofIndex],
    [image.target.digest, ofManifest],
    [other.digest, ofOther],
  ] as const) {
    bench.registry.referring.set(digest, [listed(one, signatureType)]);
  }
  await bench.pull();
  const stored: ReadonlySet<string> = await bench.stored();
  assert.ok(stored.has(ofIndex.payload) && stored.has(ofManifest.payload));
  assert.ok(!stored.has(ofOther.payload) && !stored.has(other.digest));
});

test("what a registry lists and what refers to something else, or nothing, is not kept", async (t) => {
  const bench = await trial(t, []);
  const { parts, registry } = bench;
  const [good] = sign(bench);
  const foreign = artifact(parts, "application/x.foreign", {
    ...image.target,
    digest: `sha256:${"a".repeat(64)}`,
  });
  const none = artifact(parts, "application/x.none", undefined);
  const blob = { ...listed(foreign, ""), mediaType: "application/octet-stream" };
  registry.referring.set(image.target.digest, [
    ...(registry.referring.get(image.target.digest) ?? []),
    listed(foreign, "application/x.foreign"),
    listed(none, "application/x.none"),
    blob,
  ]);
  await bench.pull();
  const stored: ReadonlySet<string> = await bench.stored();
  assert.ok(stored.has(good?.payload ?? ""));
  for (const one of [foreign, none]) {
    assert.ok(!stored.has(one.manifest.digest) && !stored.has(one.payload));
  }
});

test("an image that says it refers to another is unpacked once: as the image it is", async (t) => {
  const bench = await trial(t, []);
  const { parts, registry } = bench;
  // -- built by this test
  const document = JSON.parse(String(parts.blobs.get(image.target.digest))) as object;
  const { mediaType, digest, size } = image.target;
  const like = parts.document(ociTypes.manifest, {
    ...document,
    subject: { mediaType, digest, size },
  });
  registry.referring.set(digest, [listed({ manifest: like, payload: "" }, "application/x.image")]);
  await bench.pull();
  assert.equal(bench.applier.applied.length, 1);
  const stored: ReadonlySet<string> = await bench.stored();
  assert.ok(stored.has(like.digest));
});

test("more than 10000 referrers are refused, and a list that cannot be had fails the pull", async (t) => {
  const bench = await trial(t, []);
  const [signature] = sign(bench);
  assert.ok(signature);
  const one = listed(signature, signatureType);
  bench.registry.referring.set(
    image.target.digest,
    Array.from({ length: 10_001 }, () => one),
  );
  await assert.rejects(bench.pull(), { code: "resource-exhausted" });
  bench.registry.referrers = () => Promise.reject(new Error("no list"));
  await assert.rejects(bench.pull(), /no list/);
  assert.deepEqual(await bench.names(), []);
});
