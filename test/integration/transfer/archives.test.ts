import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { isNotFound } from "#pkg/errors.ts";
import {
  buildImage,
  buildIndex,
  digestOf,
  hostPlatform,
  type Image,
  ociArchive,
} from "#test/support/images.ts";
import { tar, type TarEntry } from "#test/support/tar.ts";
import {
  anyName,
  exportObject,
  importObject,
  storeObject,
  transferBench,
} from "./local-transfer.ts";

const name = "docker.io/library/hello:1";
const hello = (platform = hostPlatform, docker = false): Image =>
  buildImage({ layers: [[{ path: "a", content: platform.architecture }], []], platform, docker });
const other = { os: "linux", architecture: "s390x" };

function savedImage(tags: readonly string[] | null, layerName = "layer/layer.tar"): TarEntry[] {
  const layer = tar([{ path: "a", content: "saved" }]);
  const rootfs = { type: "layers", diff_ids: [digestOf(layer)] };
  const config = JSON.stringify({ ...hostPlatform, rootfs });
  return [
    { path: "config.json", content: config },
    { path: "layer/layer.tar", content: layer },
    { path: "again/layer.tar", type: "symlink", target: "../layer/layer.tar" },
    {
      path: "manifest.json",
      content: JSON.stringify([{ Config: "config.json", RepoTags: tags, Layers: [layerName] }]),
    },
  ];
}

test("an OCI layout is imported plain, gzipped and as zstd, under the name it says", async (t) => {
  const archive = ociArchive(hello(), name);
  for (const bytes of [archive, gzipSync(archive), zstdCompressSync(archive)]) {
    const bench = await transferBench(t);
    await bench.importArchive(bytes);
    assert.deepEqual(await bench.names(), [name]);
    const { target } = await bench.storage.metadata.images.get(bench.ctx, name);
    assert.equal(target.digest, hello().target.digest);
    assert.deepEqual(
      bench.steps.map(({ event }) => event),
      ["Importing", "saved", "Completed import"],
    );
    assert.deepEqual(await bench.storage.metadata.leases.list(bench.ctx), []);
  }
});

test("everything an image needs survives a collection, and nothing else does", async (t) => {
  const bench = await transferBench(t);
  const image = hello();
  await bench.importArchive(ociArchive(image, name));
  const { content, collector, images } = bench.storage.metadata;
  await collector.scheduleAndWait(bench.ctx);
  const kept = await Array.fromAsync(content.list(bench.ctx), ({ digest }) => String(digest));
  assert.deepEqual(kept.sort(), [...image.blobs.keys()].sort());
  assert.deepEqual(await content.listStatuses(bench.ctx), []);
  await images.delete(bench.ctx, name, { sync: true });
  await collector.scheduleAndWait(bench.ctx);
  assert.deepEqual(await Array.fromAsync(content.list(bench.ctx)), []);
});

test("names follow the base name, digests and the index's own name", async (t) => {
  const image = hello();
  const digest = image.target.digest;
  const annotations = { "io.containerd.image.name": name };
  const index = digestOf(
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...image.target, annotations }] }),
  );
  const byDigest = (prefix: string): string[] => [`${prefix}@${index}`, `${prefix}@${digest}`];
  const base = { ...anyName, name: "docker.io/library/hello", allowOverwrite: false };
  for (const [references, indexName, expected] of [
    [[base], "", [name]],
    [[{ ...base, name: "docker.io/other" }], "", []],
    [[{ ...base, name: "docker.io/other", addDigest: true }], "", byDigest("docker.io/other")],
    [[{ ...base, addDigest: true }], "", [name, ...byDigest(base.name)]],
    [
      [{ ...base, addDigest: true, skipNamedDigest: true }],
      "",
      [name, `${base.name}@${index}`], // the index itself was not named by the archive
    ],
    [[base], "whole", [name, "whole"]],
  ] as const) {
    const bench = await transferBench(t);
    await bench.importArchive(ociArchive(image, name), { references, name: indexName });
    assert.deepEqual(await bench.names(), [...expected].sort());
  }
});

test("what docker save wrote is imported under its tags in full, its symlinked layers found", async (t) => {
  const bench = await transferBench(t);
  await bench.importArchive(tar(savedImage(["hello", "quay.io/me/hello:2"], "again/layer.tar")));
  assert.deepEqual(await bench.names(), ["docker.io/library/hello:latest", "quay.io/me/hello:2"]);
  const unnamed = await transferBench(t);
  await unnamed.importArchive(tar(savedImage(null)), {
    references: [{ ...anyName, addDigest: true }],
  });
  const names = await unnamed.names();
  assert.equal(names.length, 2); // the manifest and the index
  for (const one of names) assert.match(one, /^import@sha256:/);
});

test("layers of docker save are compressed on request, once", async (t) => {
  const bench = await transferBench(t);
  const { content } = bench.storage.metadata;
  const layers = async (): Promise<string[]> => {
    const filter = 'labels."containerd.io/uncompressed"';
    return Array.fromAsync(content.list(bench.ctx, [filter]), ({ digest }) => String(digest));
  };
  for (const forceCompress of [true, true, false]) {
    const source = { ...importObject(tar(savedImage(["hello"]))), forceCompress };
    const store = {
      kind: "store",
      name: "",
      labels: {},
      platforms: [],
      allMetadata: false,
    } as const;
    const more = { manifestLimit: 0, references: [anyName], unpacks: [] };
    await bench.transferrer.transfer(bench.ctx, source, { ...store, ...more });
    assert.equal((await layers()).length, 1);
  }
});

test("a hostile or broken archive is refused, and leaves no name and no open ingest", async (t) => {
  const good = ociArchive(hello(), name);
  const layout: TarEntry = { path: "oci-layout", content: '{"imageLayoutVersion":"1.0.0"}' };
  const big = Buffer.alloc((20 << 20) + 1, " ");
  const confused = JSON.stringify({ schemaVersion: 2, manifests: [], layers: [] });
  for (const [archive, message] of [
    [good.subarray(0, good.length - 2000), /archive ends early/],
    [gzipSync(good).subarray(0, -50), /gzip stream is truncated/],
    [Buffer.alloc(4096, "x"), /invalid archive/],
    [Buffer.alloc(0), /unrecognized image format/],
    [tar([{ path: "x", content: "y" }]), /unrecognized image format/],
    [tar([layout]), /missing index.json in OCI layout 1.0.0/],
    [
      tar([{ path: "./oci-layout", content: '{"imageLayoutVersion":"2.0"}' }]),
      /unsupported OCI version 2.0/,
    ],
    [tar([{ path: "oci-layout", content: "{" }]), /untar oci layout/],
    [
      tar([{ path: "manifest.json", content: big }]),
      /manifest.json of 20971521 bytes, at most 20971520/,
    ],
    [tar([{ path: "manifest.json", content: "[{}]" }]), /untar manifest/],
    [tar([layout, { path: "index.json", content: confused }]), /expected index but found manifest/],
    [tar([layout, { path: "index.json", content: big }]), /at most 20971520/],
    [tar(savedImage(["Not A Name"])), /normalize image ref/],
    [tar(savedImage(["a"], "missing.tar")), /layer "missing.tar" not found/],
    [tar([...savedImage(["a"], "x"), { path: "x", type: "symlink", target: "x" }]), /not found/],
    // CVE-2014-9356, 2014-9358: paths in an archive lead nowhere but into it.
    [
      tar([...savedImage(["a"], "x"), { path: "x", type: "symlink", target: "/etc/passwd" }]),
      /not f/,
    ],
    [tar(savedImage(["a"], "../../../etc/passwd")), /layer "..\/..\/..\/etc\/passwd" not found/],
    [tar(savedImage(["a"], "/etc/passwd")), /layer "\/etc\/passwd" not found/],
  ] as const) {
    const bench = await transferBench(t);
    await assert.rejects(bench.importArchive(archive), message);
    assert.deepEqual(await bench.names(), []);
    assert.deepEqual(await bench.storage.metadata.content.listStatuses(bench.ctx), []);
  }
});

test("CVE-2023-25153: an archive whose document has no end is read no further than its header", async (t) => {
  for (const path of ["manifest.json", "oci-layout"]) {
    const head = tar([{ path, content: "" }]).subarray(0, 512);
    // 8 GiB less one byte, in octal.
    head.write("77777777777", 124, "latin1");
    head.fill(0x20, 148, 156);
    const sum = head.reduce((a, b) => a + b, 0);
    head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    let sent = 0;
    const endless = {
      ...importObject(head),
      async *read() {
        yield Buffer.from(head);
        for (; sent < 64 << 20; sent += 1 << 20) yield Buffer.alloc(1 << 20, " ");
      },
    };
    const { ctx, transferrer } = await transferBench(t);
    const store = storeObject({ references: [anyName] });
    const importing = transferrer.transfer(ctx, endless, store, { progress: () => {} });
    await assert.rejects(importing, new RegExp(`${path} of 8589934591 bytes, at most 20971520`));
    assert.ok(sent < 4 << 20, `${sent} bytes were read`);
  }
});

test("an export is the same bytes each time, and its import gives the same images", async (t) => {
  const bench = await transferBench(t);
  await bench.importArchive(ociArchive(hello(), name));
  await bench.importArchive(tar(savedImage(["quay.io/me/saved:1"])));
  const objects = {
    name,
    references: [{ ...anyName, name: "quay.io/me/saved:1", isPrefix: false }],
  };
  const first = await bench.exportArchive(objects);
  assert.ok(first.equals(await bench.exportArchive(objects)));
  const again = await transferBench(t);
  await again.importArchive(first);
  assert.deepEqual(await again.names(), [name, "quay.io/me/saved:1"]);
  for (const one of await again.names()) {
    const [a, b] = await Promise.all(
      [bench, again].map(({ storage, ctx }) => storage.metadata.images.get(ctx, one)),
    );
    assert.equal(a?.target.digest, b?.target.digest);
  }
  assert.ok(first.equals(await again.exportArchive(objects)));
  const docker = /"RepoTags":\["hello:1"\]/;
  assert.match(first.toString("latin1"), docker);
  const without = await bench.exportArchive(objects, { skipCompatibilityManifest: true });
  assert.doesNotMatch(without.toString("latin1"), docker);
});

test("an index is exported for the platforms asked for; others may be missing, these may not", async (t) => {
  const [mine, theirs] = [hello(), hello(other)];
  const index = buildIndex([
    { image: mine, platform: hostPlatform },
    { image: theirs, platform: other },
  ]);
  const bench = await transferBench(t);
  const partial = new Map(
    [...index.blobs].filter(([digest]) => !theirs.blobs.has(digest) || mine.blobs.has(digest)),
  );
  await bench.importArchive(ociArchive({ ...index, blobs: partial }, name), {
    references: [anyName],
    platforms: [hostPlatform],
  });
  const has = (archive: Buffer, digest: string): boolean =>
    archive.includes(digest.slice("sha256:".length) + "\0");
  for (const allPlatforms of [false, true]) {
    const archive = await bench.exportArchive({ name }, { allPlatforms });
    assert.ok(has(archive, mine.target.digest));
    assert.ok(has(archive, index.target.digest));
    assert.ok(!has(archive, theirs.target.digest));
  }
  assert.match(bench.steps.map(({ event }) => event).join(), /Left out linux\/s390x/);
  await assert.rejects(bench.exportArchive({ name }, { platforms: [other] }), isNotFound);
  const elsewhere = [{ os: "windows", architecture: "amd64" }];
  await assert.rejects(
    bench.exportArchive({ name }, { platforms: elsewhere }),
    /no manifest found/,
  );
  const whole = await transferBench(t);
  await whole.importArchive(ociArchive(index, name));
  const archive = await whole.exportArchive({ name }, { allPlatforms: true });
  assert.ok(has(archive, theirs.target.digest));
});

test("tag gives an image a further name, and moves one that is in use", async (t) => {
  const bench = await transferBench(t);
  await bench.importArchive(ociArchive(hello(), name));
  await bench.importArchive(ociArchive(hello(other), "docker.io/library/other:1"));
  const { images } = bench.storage.metadata;
  const store = { kind: "store", labels: {}, platforms: [], allMetadata: false } as const;
  const more = { manifestLimit: 0, references: [], unpacks: [] };
  for (const from of [name, "docker.io/library/other:1"]) {
    const to = { ...store, ...more, name: "docker.io/library/new:1", labels: { from: "tag" } };
    await bench.transferrer.transfer(bench.ctx, { ...store, ...more, name: from }, to);
    const made = await images.get(bench.ctx, to.name);
    assert.equal(made.target.digest, (await images.get(bench.ctx, from)).target.digest);
    assert.deepEqual(made.labels, { from: "tag" });
  }
  const missing = { ...store, ...more, name: "docker.io/library/none:1" };
  await assert.rejects(bench.transferrer.transfer(bench.ctx, missing, missing), isNotFound);
});

test("an import into an export sends back every byte", async (t) => {
  const bench = await transferBench(t);
  const bytes = Buffer.alloc(200_000, "echo");
  const chunks: Uint8Array[] = [];
  await bench.transferrer.transfer(bench.ctx, importObject(bytes), exportObject({}, chunks));
  assert.ok(Buffer.concat(chunks).equals(bytes));
});
