import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "#pkg/digest.ts";
import { descriptorToJson, parseImageConfig, parseIndex, parseManifest } from "#pkg/image-spec.ts";
import { dockerManifest, dockerManifestList, ociIndex, ociManifest } from "#pkg/media-types.ts";

const digest = digestOf("x");
const config = { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: 1 };
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const refused = { code: "invalid-argument" };

test("parseManifest() and parseIndex() read what upstream writes, null lists included", () => {
  const manifest = parseManifest(bytes({ config, layers: [config, config] }), ociManifest);
  assert.equal(manifest.layers.length, 2);
  assert.deepEqual(manifest.config.annotations, {});
  assert.deepEqual(parseManifest(bytes({ config, layers: null }), dockerManifest).layers, []);
  assert.deepEqual(parseIndex(bytes({ manifests: null }), dockerManifestList).manifests, []);
  assert.deepEqual(parseIndex(bytes({ schemaVersion: 2 }), ociIndex).manifests, []);
  const platform = { os: "windows", architecture: "amd64", "os.version": "10.0", variant: "v2" };
  const [entry] = parseIndex(bytes({ manifests: [{ ...config, platform }] }), ociIndex).manifests;
  assert.deepEqual(entry?.platform, {
    os: "windows",
    architecture: "amd64",
    variant: "v2",
    osVersion: "10.0",
  });
  assert.deepEqual(descriptorToJson(entry ?? manifest.config), { ...config, platform });
});

test("CVE-2021-41190: a document that could be taken for another kind is refused", () => {
  for (const [document, type] of [
    [{ config, manifests: [] }, ociManifest],
    [{ config, Manifests: null }, ociManifest],
    [{ config, mediaType: ociIndex }, dockerManifest],
    [{ config, mediaType: dockerManifestList }, ociManifest],
    [{ manifests: [], layers: [] }, ociIndex],
    [{ manifests: [], LAYERS: null }, ociIndex],
    [{ manifests: [], config: null }, dockerManifestList],
    [{ manifests: [], mediaType: ociManifest }, ociIndex],
    [{ config, fsLayers: [] }, dockerManifest],
    [{ manifests: [], fsLayers: [] }, ociIndex],
  ] as const) {
    const parse = type === ociManifest || type === dockerManifest ? parseManifest : parseIndex;
    assert.throws(() => parse(bytes(document), type), refused, JSON.stringify(document));
  }
});

test("malformed documents and descriptors are refused, naming the field", () => {
  for (const text of ["", "[]", "null", "1", "{", '"x"']) {
    assert.throws(() => parseIndex(Buffer.from(text), ociIndex), refused, text);
  }
  for (const [broken, message] of [
    [{ ...config, size: -1 }, /negative content size \(-1\)/],
    [{ ...config, size: 2 ** 60 }, /field config.size/],
    [{ ...config, size: "1" }, /field config.size/],
    [{ ...config, digest: "sha256:12" }, /field config.digest/],
    [{ ...config, digest: "md5:12" }, /field config.digest/],
    [{ ...config, annotations: { a: 1 } }, /field config.annotations.a/],
    [undefined, /field config/],
  ] as const) {
    assert.throws(() => parseManifest(bytes({ config: broken }), ociManifest), {
      ...refused,
      message,
    });
  }
});

test("embedded data is taken only where it is what size and digest say", () => {
  const data = Buffer.from("hello");
  const embedded = { ...config, digest: digestOf(data), size: 5, data: data.toString("base64") };
  const read = (descriptor: object): string => {
    return String(parseManifest(bytes({ config: descriptor }), ociManifest).config.data);
  };
  assert.equal(read(embedded), "hello");
  assert.equal(read({ ...embedded, digest }), "undefined");
  assert.equal(read({ ...embedded, size: 6 }), "undefined");
});

test("parseImageConfig() reads platform and diff ids", () => {
  const parsed = parseImageConfig(
    bytes({ os: "linux", architecture: "arm64", rootfs: { type: "layers", diff_ids: [digest] } }),
  );
  assert.deepEqual(parsed.rootfs, { type: "layers", diffIds: [digest] });
  assert.deepEqual(parsed.platform, { os: "linux", architecture: "arm64" });
  assert.deepEqual(parseImageConfig(bytes({})).rootfs, { type: "", diffIds: [] });
  assert.throws(() => parseImageConfig(bytes({ rootfs: { diff_ids: ["x"] } })), refused);
});
