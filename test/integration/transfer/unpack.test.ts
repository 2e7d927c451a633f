import assert from "node:assert/strict";
import { test } from "node:test";
import { Limit } from "#pkg/limit.ts";
import { snapshotLabels } from "#core/unpack/layer-snapshot.ts";
import { chainIds } from "#core/unpack/chain-id.ts";
import { digestOf, parseDigest } from "#pkg/digest.ts";
import { codeOf } from "#pkg/errors.ts";
import { buildImage, type Image, ociArchive } from "#test/support/images.ts";
import {
  anyName,
  anyOs,
  type Bench,
  importObject,
  storeObject,
  transferBench,
} from "./local-transfer.ts";

const name = "docker.io/library/layers:1";
const unpacks = [{ platform: anyOs, snapshotter: "" }];
const store = { references: [anyName], unpacks };

function layered(contents: readonly string[], compression: "gzip" | "zstd" = "gzip"): Image {
  const layers = contents.map((content) => [{ path: content, content }]);
  return buildImage({ layers, compression, platform: anyOs });
}

async function snapshots({ storage, ctx }: Bench): Promise<Map<string, string>> {
  const all = await Array.fromAsync(storage.overlay.list(ctx));
  return new Map(all.map((info) => [info.name, info.parent]));
}

test("chainIds() are the first diff id, then digests of chain and diff", () => {
  const [a, b, c] = ["a", "b", "c"].map((text) => digestOf(text));
  assert.ok(a && b && c);
  const ab = digestOf(`${a} ${b}`);
  assert.deepEqual(chainIds([a, b, c]), [a, ab, digestOf(`${ab} ${c}`)]);
  assert.deepEqual(chainIds([]), []);
});

for (const [how, given] of [
  ["in order", {}],
  ["beside each other", { capabilities: ["rebase"], unpackLimiter: new Limit(2) }],
] as const) {
  test(`layers are unpacked ${how} into one chain, which the image keeps`, async (t) => {
    const bench = await transferBench(t, given);
    const contents = ["a", "b", "c", "d"];
    if (how === "beside each other") bench.applier.together = 2;
    await bench.importArchive(ociArchive(layered(contents), name), store);
    const chain = await snapshots(bench);
    assert.equal(chain.size, 4);
    const roots = [...chain].filter(([, parent]) => parent === "");
    assert.equal(roots.length, 1);
    assert.equal(bench.applier.applied.length, 4);
    const { content, collector } = bench.storage.metadata;
    await collector.scheduleAndWait(bench.ctx);
    assert.deepEqual(await snapshots(bench), chain);
    const labelled = 'labels."containerd.io/uncompressed"';
    assert.equal((await Array.fromAsync(content.list(bench.ctx, [labelled]))).length, 4);
    assert.equal(bench.applier.runningMost, bench.applier.together);
  });

  test(`equal layers are unpacked once, ${how}, whoever asks`, async (t) => {
    const bench = await transferBench(t, given);
    const [short, long] = [layered(["a", "b"]), layered(["a", "b", "c"])];
    await Promise.all([
      bench.importArchive(ociArchive(long, name), store),
      bench.importArchive(ociArchive(short, "docker.io/library/short:1"), store),
      bench.importArchive(ociArchive(long, "docker.io/library/again:1"), store),
    ]);
    assert.equal(bench.applier.applied.length, 3);
    assert.equal((await snapshots(bench)).size, 3);
    await bench.importArchive(ociArchive(long, name), store);
    assert.equal(bench.applier.applied.length, 3);
  });

  test(`a layer that is not what the configuration says leaves nothing, ${how}`, async (t) => {
    const bench = await transferBench(t, given);
    const image = layered(["a", "b", "c"]);
    const [, second] = [...image.roles].filter(([, role]) => role.startsWith("layer"));
    const wrong = layered(["a", "x", "c"]);
    const [, replacement] = [...wrong.roles].filter(([, role]) => role.startsWith("layer"));
    assert.ok(second && replacement);
    const forged = forge(image, second[0], replacement[0], wrong);
    const refused = /wrong diff id "sha256:\w+" calculated on extraction/;
    await assert.rejects(bench.importArchive(ociArchive(forged, name), store), refused);
    assert.deepEqual(await bench.names(), []);
    const left = [...(await snapshots(bench)).keys()];
    assert.ok(left.every((key) => !key.startsWith("extract-")));
    assert.ok(left.length <= 1);
  });
}

/** The image with one layer of its manifest replaced by another image's. */
function forge(image: Image, layer: string, by: string, from: Image): Image {
  const manifest = JSON.parse(String(image.blobs.get(image.target.digest))) as {
    layers: { digest: string; size: number }[];
  }; // -- built by this test
  const layers = manifest.layers.map((one) =>
    one.digest === layer ? { ...one, digest: by, size: from.blobs.get(by)?.length ?? 0 } : one,
  );
  const bytes = Buffer.from(JSON.stringify({ ...manifest, layers }));
  const digest = digestOf(bytes);
  const blobs = new Map([...image.blobs, [digest, bytes] as const]);
  const replaced = from.blobs.get(by);
  if (replaced) blobs.set(by, replaced);
  return { ...image, blobs, target: { ...image.target, digest, size: bytes.length } };
}

test("as many diff ids as layers are asked for", async (t) => {
  const bench = await transferBench(t);
  const image = layered(["a", "b"]);
  const manifest = JSON.parse(String(image.blobs.get(image.target.digest))) as {
    layers: unknown[];
  }; // -- built by this test
  const bytes = Buffer.from(JSON.stringify({ ...manifest, layers: manifest.layers.slice(1) }));
  const target = { ...image.target, digest: digestOf(bytes), size: bytes.length };
  const short = { ...image, target, blobs: new Map([...image.blobs, [target.digest, bytes]]) };
  const refused = /number of layers and diffIDs don't match: 1 != 2/;
  await assert.rejects(bench.importArchive(ociArchive(short, name), store), refused);
});

test("an image whose root file system is not of layers is imported without snapshots", async (t) => {
  const bench = await transferBench(t);
  const image = layered(["a"]);
  const read = (digest: string): unknown => JSON.parse(String(image.blobs.get(digest)));
  // -- built by this test
  const manifest = read(image.target.digest) as { config: { digest: string } };
  const config = read(manifest.config.digest) as { rootfs: object };
  const blobs = new Map(image.blobs);
  const put = (value: object): { digest: string; size: number } => {
    const bytes = Buffer.from(JSON.stringify(value));
    blobs.set(digestOf(bytes), bytes);
    return { digest: digestOf(bytes), size: bytes.length };
  };
  const other = put({ ...config, rootfs: { ...config.rootfs, type: "other" } });
  const target = put({ ...manifest, config: { ...manifest.config, ...other } });
  const forged = { ...image, blobs, target: { ...image.target, ...target } };
  await bench.importArchive(ociArchive(forged, name), store);
  assert.deepEqual(await bench.names(), [name]);
  assert.equal((await snapshots(bench)).size, 0);
});

test("an unpacking that its client gives up leaves no snapshot", async (t) => {
  const bench = await transferBench(t);
  const { applier } = bench;
  const controller = new AbortController();
  const apply = applier.apply.bind(applier);
  applier.apply = async (ctx, ...rest) => {
    if (applier.applied.length === 1) controller.abort();
    ctx.throwIfEnded();
    return apply(ctx, ...rest);
  };
  const archive = importObject(ociArchive(layered(["a", "b", "c"]), name));
  const ctx = bench.ctx.withSignal(controller.signal);
  const unpacking = bench.transferrer.transfer(ctx, archive, storeObject(store));
  await assert.rejects(unpacking, (error) => codeOf(error) === "canceled");
  assert.equal(applier.applied.length, 1);
  assert.deepEqual(await bench.names(), []);
  const left = [...(await snapshots(bench)).keys()];
  assert.deepEqual(
    left.filter((key) => key.startsWith("extract-")),
    [],
  );
  await bench.storage.metadata.collector.scheduleAndWait(bench.ctx);
  assert.equal((await snapshots(bench)).size, 0);
});

test("images of platforms that nothing unpacks are imported without snapshots", async (t) => {
  const bench = await transferBench(t);
  const platform = { os: "windows", architecture: "amd64" };
  const image = buildImage({ layers: [[{ path: "a", content: "a" }]], platform });
  await bench.importArchive(ociArchive(image, name), store);
  assert.deepEqual(await bench.names(), [name]);
  assert.equal((await snapshots(bench)).size, 0);
  const nowhere = { ...store, unpacks: [{ platform: anyOs, snapshotter: "nope" }] };
  await assert.rejects(bench.importArchive(ociArchive(image, name), nowhere), {
    code: "invalid-argument",
    message: /no unpack platforms defined/,
  });
});

test("snapshotLabels() take what is meant for snapshotters from annotations, but no id mapping", () => {
  const digest = parseDigest(`sha256:${"a".repeat(64)}`);
  const annotations = {
    "containerd.io/snapshot/cri.layer-digest": "x",
    "containerd.io/snapshot/uidmapping": "0:0:1",
    "containerd.io/snapshot/gidmapping": "0:0:1",
    "containerd.io/snapshot.ref": "forged",
    "org.example": "y",
  };
  const layer = { mediaType: "", digest, sizeBytes: 1, annotations };
  assert.deepEqual(
    snapshotLabels({ layer, diffId: digest, chainId: digest, parentChainId: digest }),
    {
      "containerd.io/snapshot/cri.layer-digest": "x",
      "containerd.io/snapshot.ref": digest,
      "containerd.io/snapshot/diff-id": digest,
      "containerd.io/snapshot/parent-chain-id": digest,
    },
  );
});
