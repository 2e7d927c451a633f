import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Limit } from "#pkg/limit.ts";
import type { Digest } from "#pkg/digest.ts";
import { alreadyExists, isNotFound } from "#pkg/errors.ts";
import {
  buildImage,
  buildIndex,
  digestOf,
  hostPlatform,
  type Image,
} from "#test/support/images.ts";
import { until } from "#test/support/processes.ts";
import { FakeRegistry, reference, registryObject } from "./fake-registry.ts";
import { anyOs, type Bench, storeObject, transferBench } from "./local-transfer.ts";

const unpacks = [{ platform: anyOs, snapshotter: "" }];
const store = storeObject({ name: reference, platforms: [anyOs], unpacks });

function layered(contents: readonly string[], compression: "gzip" | "none" = "none"): Image {
  const layers = contents.map((content) => [{ path: "file", content: content.repeat(5000) }]);
  return buildImage({ layers, compression, platform: anyOs });
}

const blobOf = (image: Image, role: string): string =>
  [...image.roles].find(([, one]) => one === role)?.[0] ?? "";

interface PullBench extends Bench {
  readonly registry: FakeRegistry;
  pull(): Promise<void>;
}

async function pullBench(
  t: TestContext,
  image: Image,
  given: Parameters<typeof transferBench>[1] = {},
): Promise<PullBench> {
  const registry = new FakeRegistry(image);
  const bench = await transferBench(t, { ...given, openResolver: () => registry });
  const progress = (step: Bench["steps"][number]): void => void bench.steps.push(step);
  return {
    ...bench,
    registry,
    pull: () => bench.transferrer.transfer(bench.ctx, registryObject(), store, { progress }),
  };
}

const eventsOf = ({ steps }: Bench, name: string): string[] =>
  steps.filter((step) => step.name === name).map(({ event }) => event);

test("a pull stores, unpacks, names, and tells of it as a tree", async (t) => {
  const image = layered(["a", "b"]);
  const bench = await pullBench(t, image);
  await bench.pull();
  assert.deepEqual(await bench.names(), [reference]);
  const { content, collector } = bench.storage.metadata;
  await collector.scheduleAndWait(bench.ctx);
  const kept = await Array.fromAsync(content.list(bench.ctx), ({ digest }) => String(digest));
  assert.deepEqual(kept.sort(), [...image.blobs.keys()].sort());
  const layer = `layer-${blobOf(image, "layer0")}`;
  const told = eventsOf(bench, layer).filter((event) => event !== "downloading");
  assert.deepEqual(told, ["waiting", "complete", "extracting", "extracted"]);
  const manifest = `manifest-${image.target.digest}`;
  const byName = new Map(bench.steps.map((step) => [step.name, step]));
  assert.deepEqual(byName.get(layer)?.parents, [manifest]);
  assert.deepEqual(byName.get(manifest)?.parents, [reference]);
  const whole = bench.steps.filter(({ name }) => name === undefined).map(({ event }) => event);
  assert.deepEqual(whole, [
    `Resolving from OCI Registry (${reference})`,
    `Pulling from OCI Registry (${reference})`,
    `Completed pull from OCI Registry (${reference})`,
  ]);
  const source = "containerd.io/distribution.source.registry.test";
  const info = await content.info(bench.ctx, blobOf(image, "layer0") as Digest); // -- made by hashing
  assert.equal(info.labels[source], "library/image");
});

test("what is here is not fetched, nor a layer whose snapshot exists", async (t) => {
  const image = layered(["a", "b"]);
  const bench = await pullBench(t, image);
  await bench.pull();
  const before = bench.registry.fetched.length;
  await bench.pull();
  assert.equal(bench.registry.fetched.length, before);
  assert.equal(eventsOf(bench, `manifest-${image.target.digest}`).at(-1), "already exists");
  // The blobs go, the snapshots stay: only what is new is fetched.
  const { content } = bench.storage.metadata;
  for (const role of ["layer0", "layer1"]) {
    await content.delete(bench.ctx, blobOf(image, role) as Digest); // -- made by hashing
  }
  const longer = layered(["a", "b", "c"]);
  bench.registry.image = longer;
  bench.registry.fetched.length = 0;
  await bench.pull();
  const fetched = bench.registry.fetched.map(({ digest }) => longer.roles.get(digest));
  assert.deepEqual(new Set(fetched), new Set(["config", "layer2", "manifest"]));
});

test("several pulls at once fetch each blob once, and layers beside each other", async (t) => {
  const image = layered(["a", "b", "c"]);
  const bench = await pullBench(t, image);
  // No layer comes before all are asked for: one after the other would wait for ever.
  const layers = new Set(["layer0", "layer1", "layer2"].map((role) => blobOf(image, role)));
  const together = Promise.withResolvers<void>();
  bench.registry.beforeFetch = async (digest) => {
    if (layers.delete(digest) && layers.size === 0) together.resolve();
    if (image.roles.get(digest)?.startsWith("layer")) await together.promise;
  };
  await Promise.all([bench.pull(), bench.pull(), bench.pull()]);
  const digests = bench.registry.fetched.map(({ digest }) => digest);
  assert.equal(new Set(digests).size, digests.length);
  assert.equal(bench.applier.applied.length, 3);
});

for (const [how, given] of [
  ["in order", {}],
  ["beside each other", { capabilities: ["rebase"], unpackLimiter: new Limit(3) }],
] as const) {
  test(`a layer that a remote snapshotter has is not fetched, ${how}`, async (t) => {
    const image = layered(["a", "b", "c"]);
    const bench = await pullBench(t, image, given);
    const { overlay } = bench.storage;
    const prepare = overlay.prepare.bind(overlay);
    const had: string[] = [];
    overlay.prepare = async (ctx, key, parent, options) => {
      const target = options?.labels?.["containerd.io/snapshot.ref"] ?? "";
      const mounts = await prepare(ctx, key, parent, options);
      if (had.length > 0) return mounts;
      had.push(target);
      await overlay.commit(ctx, target, key, options);
      throw alreadyExists(`target snapshot ${target}`);
    };
    await bench.pull();
    const fetched = bench.registry.fetched.map(({ digest }) => image.roles.get(digest));
    assert.deepEqual(new Set(fetched), new Set(["manifest", "config", "layer1", "layer2"]));
    const chain = await Array.fromAsync(overlay.list(bench.ctx), ({ parent }) => parent);
    assert.equal(chain.length, 3);
    assert.ok(chain.includes(had[0] ?? "none"));
  });
}

test("a snapshotter that asks for it is told what image a layer is of, whatever the image says", async (t) => {
  const bare = layered(["a", "b"]);
  // -- built by this test
  const document = JSON.parse(String(bare.blobs.get(bare.target.digest))) as { layers: object[] };
  const prefix = "containerd.io/snapshot/cri.";
  const annotations = { [`${prefix}image-ref`]: "evil.test/x:1", "containerd.io/snapshot/x": "y" };
  const layers = document.layers.map((layer) => ({ ...layer, annotations }));
  const bytes = Buffer.from(JSON.stringify({ ...document, layers }));
  const target = { ...bare.target, digest: digestOf(bytes), size: bytes.length };
  const image = { ...bare, target, blobs: new Map([...bare.blobs, [target.digest, bytes]]) };
  const digests = ["layer0", "layer1"].map((role) => blobOf(image, role));
  for (const wantsImageInfo of [true, false]) {
    const bench = await pullBench(t, image, { wantsImageInfo });
    const { overlay } = bench.storage;
    const prepare = overlay.prepare.bind(overlay);
    const told: Readonly<Record<string, string>>[] = [];
    overlay.prepare = async (ctx, key, parent, options) => {
      told.push(options?.labels ?? {});
      return prepare(ctx, key, parent, options);
    };
    await bench.pull();
    assert.deepEqual(
      told.map((labels) => labels[`${prefix}image-ref`]),
      wantsImageInfo ? [reference, reference] : ["evil.test/x:1", "evil.test/x:1"],
    );
    assert.ok(told.every((labels) => labels["containerd.io/snapshot/x"] === "y"));
    const field = (name: string) => told.map((labels) => labels[`${prefix}${name}`]);
    const none = [undefined, undefined];
    assert.deepEqual(field("layer-digest"), wantsImageInfo ? digests : none);
    assert.deepEqual(field("image-layers"), wantsImageInfo ? [digests.join(), digests[1]] : none);
    const manifests = [target.digest, target.digest];
    assert.deepEqual(field("manifest-digest"), wantsImageInfo ? manifests : none);
  }
});

test("a layer that a snapshotter stages is committed without being fetched", async (t) => {
  const image = layered(["a", "b", "c"]);
  const given = { capabilities: ["rebase"], unpackLimiter: new Limit(3) };
  const bench = await pullBench(t, image, given);
  const { overlay, metadata } = bench.storage;
  const prepare = overlay.prepare.bind(overlay);
  let prepared = 0;
  overlay.prepare = async (...args) => {
    const mounts = await prepare(...args);
    const isStaged = ++prepared === 2;
    return isStaged ? mounts.map((mount) => ({ ...mount, options: ["ro", "rbind"] })) : mounts;
  };
  await bench.pull();
  const fetched = bench.registry.fetched.map(({ digest }) => image.roles.get(digest));
  assert.deepEqual(new Set(fetched), new Set(["manifest", "config", "layer0", "layer2"]));
  assert.equal((await Array.fromAsync(overlay.list(bench.ctx))).length, 3);
  const labelled = await Array.fromAsync(
    metadata.content.list(bench.ctx, ['labels."containerd.io/uncompressed"']),
  );
  assert.equal(labelled.length, 2);
});

test("layers that are complete together wait for the disk once, before any of them is committed", async (t) => {
  const image = layered(["a", "b", "c", "d"]);
  const given = { capabilities: ["rebase"], unpackLimiter: new Limit(4) };
  const bench = await pullBench(t, image, given);
  const { applier, steps } = bench;
  const apply = applier.apply.bind(applier);
  const first = blobOf(image, "layer0");
  applier.apply = async (...args) => {
    if (args[1].digest === first) {
      const isLast = (): boolean => steps.filter(({ event }) => event === "extracted").length === 3;
      await until("the other layers are complete", isLast);
    }
    return apply(...args);
  };
  const order: string[] = [];
  const { overlay } = bench.storage;
  const commit = overlay.commit.bind(overlay);
  Object.assign(overlay, {
    flush: async (...[, keys]: Parameters<NonNullable<typeof overlay.flush>>) => {
      order.push(`flush ${keys.length}`);
    },
    commit: async (...args: Parameters<typeof commit>) => {
      order.push("commit");
      await commit(...args);
    },
  });
  await bench.pull();
  assert.deepEqual(order, ["flush 4", "commit", "commit", "commit", "commit"]);
});

test("a pull that broke off goes on where it was", async (t) => {
  const image = layered(["a"]);
  const bench = await pullBench(t, image);
  const digest = blobOf(image, "layer0");
  bench.registry.cutAt = { digest, bytes: 3000 };
  await assert.rejects(bench.pull(), { code: "data-loss" });
  assert.deepEqual(await bench.names(), []);
  bench.registry.cutAt = undefined;
  await bench.pull();
  const offsets = bench.registry.fetched.filter((one) => one.digest === digest);
  assert.deepEqual(
    offsets.map(({ offset }) => offset),
    [0, 3000],
  );
});

test("bytes that are not what the digest says are not kept, and the next pull is well", async (t) => {
  const image = layered(["a"]);
  for (const role of ["layer0", "config", "manifest"]) {
    const bench = await pullBench(t, image);
    const digest = blobOf(image, role);
    const length = image.blobs.get(digest)?.length ?? 0;
    bench.registry.forged.set(digest, Buffer.alloc(length, "x"));
    await assert.rejects(bench.pull(), { code: "failed-precondition" });
    assert.deepEqual(await bench.names(), []);
    assert.deepEqual(await bench.storage.metadata.content.listStatuses(bench.ctx), []);
    bench.registry.forged.clear();
    await bench.pull();
    assert.deepEqual(await bench.names(), [reference]);
  }
});

test("of an index the platform asked for is taken; without one it is not found", async (t) => {
  const [mine, other] = [layered(["a"]), buildImage({ layers: [[{ path: "b", content: "b" }]] })];
  const platform = { os: "linux", architecture: "s390x" };
  const index = buildIndex([
    { image: other, platform },
    { image: mine, platform: anyOs },
  ]);
  const bench = await pullBench(t, index);
  await bench.pull();
  const digests = new Set(bench.registry.fetched.map(({ digest }) => digest));
  assert.deepEqual(digests, new Set([index.target.digest, ...mine.blobs.keys()]));
  const lacking = await pullBench(t, buildIndex([{ image: other, platform }]));
  const { transferrer, ctx } = lacking;
  const limited = { ...store, manifestLimit: 1 };
  await assert.rejects(transferrer.transfer(ctx, registryObject(), limited), isNotFound);
  const metadata = { ...store, allMetadata: true };
  const all = await pullBench(t, index);
  await all.transferrer.transfer(all.ctx, registryObject(), metadata);
  const roles = all.registry.fetched.map(({ digest }) => index.roles.get(digest) ?? "index");
  assert.ok(roles.includes("config-s390x") && !roles.includes("layer0-s390x"));
});

test("manifests that share a configuration are unpacked once, and all their layers fetched", async (t) => {
  const [plain, gzip] = [layered(["a", "b"], "none"), layered(["a", "b"], "gzip")];
  assert.equal(blobOf(plain, "config"), blobOf(gzip, "config"));
  const index = buildIndex([
    { image: plain, platform: hostPlatform },
    { image: gzip, platform: hostPlatform },
  ]);
  const bench = await pullBench(t, index);
  const all = storeObject({ name: reference, unpacks });
  for (let pulls = 0; pulls < 2; pulls++) {
    await bench.transferrer.transfer(bench.ctx, registryObject(), all);
    const kept = await Array.fromAsync(bench.storage.metadata.content.list(bench.ctx));
    assert.equal(kept.length, index.blobs.size);
    assert.equal(bench.applier.applied.length, 2);
    for (const role of ["layer0", "layer1"]) {
      const digest = blobOf(plain, role) as Digest; // -- made by hashing
      await bench.storage.metadata.content.delete(bench.ctx, digest);
    }
  }
});

test("documents of a size or kind that cannot be are refused before they are fetched", async (t) => {
  const image = layered(["a"]);
  for (const [target, message] of [
    [{ ...image.target, size: 0 }, /content size of zero/],
    [{ ...image.target, size: -5 }, /negative content size \(-5\)/],
    [{ ...image.target, size: 500_000_000 }, /content size of 500000000, at most 20971520 of appl/],
    [
      { ...image.target, mediaType: "application/vnd.docker.distribution.manifest.v1+prettyjws" },
      /schema 1 image manifests are no longer supported/,
    ],
  ] as const) {
    const bench = await pullBench(t, { ...image, target });
    await assert.rejects(bench.pull(), message);
    assert.equal(bench.registry.fetched.length, 0);
  }
  const size = 500_000_000;
  const index = { manifests: [{ ...image.target, size }] };
  // -- built by this test
  const manifest = JSON.parse(String(image.blobs.get(image.target.digest))) as { config: object };
  for (const [mediaType, document, part] of [
    ["application/vnd.oci.image.index.v1+json", index, "manifest"],
    [image.target.mediaType, { ...manifest, config: { ...manifest.config, size } }, "config"],
  ] as const) {
    const bytes = Buffer.from(JSON.stringify(document));
    const target = { mediaType, digest: digestOf(bytes), size: bytes.length };
    const blobs = new Map([...image.blobs, [target.digest, bytes]]);
    const bench = await pullBench(t, { ...image, target, blobs });
    await assert.rejects(bench.pull(), /content size of 500000000, at most 20971520 of appl/);
    assert.ok(bench.registry.fetched.every(({ digest }) => digest !== blobOf(image, part)));
  }
  const confused = Buffer.from(JSON.stringify({ manifests: [], config: {} }));
  const target = { ...image.target, digest: digestOf(confused), size: confused.length };
  const bench = await pullBench(t, {
    ...image,
    target,
    blobs: new Map([[target.digest, confused]]),
  });
  await assert.rejects(bench.pull(), /expected manifest but found index/);
});

test("a configuration of no type is Docker's in Docker's manifests alone, and then in the image's own", async (t) => {
  const docker = buildImage({
    layers: [[{ path: "a", content: "a" }]],
    platform: anyOs,
    docker: true,
  });
  for (const [image, isKnown] of [
    [docker, true],
    [layered(["a"]), false],
  ] as const) {
    const text = String(image.blobs.get(image.target.digest));
    const typed = /application\/vnd\.(docker\.container\.image|oci\.image\.config)\.v1\+json/;
    const bytes = Buffer.from(text.replace(typed, "application/octet-stream"));
    const target = { ...image.target, digest: digestOf(bytes), size: bytes.length };
    const blobs = new Map([...image.blobs, [target.digest, bytes]]);
    const bench = await pullBench(t, { ...image, target, blobs });
    await bench.pull();
    const { content, images } = bench.storage.metadata;
    const stored = (await images.get(bench.ctx, reference)).target;
    assert.equal(stored.digest === target.digest, !isKnown);
    assert.equal(bench.applier.applied.length, isKnown ? 1 : 0);
    await using reader = await content.open(bench.ctx, stored.digest);
    // -- built by this test
    const document = JSON.parse(String(await reader.read(0, reader.sizeBytes))) as {
      config: { mediaType: string };
    };
    const type = "application/vnd.docker.container.image.v1+json";
    assert.equal(document.config.mediaType, isKnown ? type : "application/octet-stream");
  }
});

test("a push sends blobs before manifests and indexes last, leaving out what is not here", async (t) => {
  const [mine, other] = [layered(["a"]), buildImage({ layers: [[{ path: "b", content: "b" }]] })];
  const index = buildIndex([
    { image: mine, platform: anyOs },
    { image: other, platform: { os: "linux", architecture: "s390x" } },
  ]);
  const bench = await pullBench(t, index);
  await bench.pull();
  const { transferrer, ctx, registry } = bench;
  for (const platforms of [[], [anyOs]]) {
    registry.pushed.length = 0;
    await transferrer.transfer(ctx, { ...store, platforms }, registryObject());
    const kinds = registry.pushed.map((digest) => {
      if (digest === index.target.digest) return "index";
      return digest === mine.target.digest ? "manifest" : "blob";
    });
    assert.deepEqual(kinds, ["blob", "blob", "manifest", "index"]);
  }
  registry.push = async (_ctx, { digest }) => {
    if (digest === index.target.digest) throw new Error("400 Bad Request");
    return { outcome: "exists" };
  };
  const refused = /references to blobs and\/or manifests are missing in your target registry: 400/;
  await assert.rejects(transferrer.transfer(ctx, store, registryObject()), refused);
});
