import assert from "node:assert/strict";
import fc from "fast-check";
import { convertImage } from "#core/images/convert-image.ts";
import { childrenOf, readDocument } from "#core/images/manifest.ts";
import { writeDocument } from "#core/images/write-blob.ts";
import { withLease } from "#core/transfer/local.ts";
import { digestOf } from "#pkg/digest.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { anyPlatform } from "#pkg/platform-match.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { openImageBench } from "#test/fuzz/targets/image-bench.ts";
import { imageFrom, imageInput } from "#test/fuzz/targets/image-input.ts";
import { ociArchive } from "#test/support/images.ts";

const name = "docker.io/library/fuzz:1";
const layerTypes = [
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
  "application/vnd.oci.image.layer.v1.tar",
  "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
  "application/x-unknown",
];
/** Keys of a manifest that are somebody else's, or its own with another value. */
const changes = fc.dictionary(
  fc.constantFrom(
    "annotations",
    "x-own",
    "__proto__",
    "constructor",
    "mediaType",
    "layers",
    "config",
  ),
  fc.jsonValue({ maxDepth: 2 }),
  { maxKeys: 2, noNullPrototype: true },
);

interface Document {
  readonly layers: readonly object[];
}

function changed(
  document: Document,
  { types, given }: { types: readonly string[]; given: Readonly<Record<string, unknown>> },
): object {
  const layers = document.layers.map((layer, i) => {
    return { ...layer, ...(types[i] !== undefined && { mediaType: types[i] }), "x-layer": i };
  });
  return Object.fromEntries(Object.entries({ ...document, layers, ...given }));
}

function isDocker({ mediaType }: { readonly mediaType: string }): boolean {
  return /^application\/vnd\.docker\.(?:distribution|container|image)\./.test(mediaType);
}

/** A manifest under OCI's types has the same parts and keys, is no other when converted again, or is refused as bad. */
export const target = fuzzTarget({
  name: "ConvertManifest",
  smokeRuns: 20,
  inputs: fc.record({
    image: imageInput,
    types: fc.array(fc.constantFrom(...layerTypes), { maxLength: 3 }),
    given: changes,
  }),
  async check({ image, types, given }, dir) {
    await using bench = await openImageBench(dir);
    const { content, images, leases } = bench.storage.metadata;
    await bench.importArchive(ociArchive(imageFrom({ ...image, docker: true }), name));
    const { target: manifest } = await images.get(bench.ctx, name);
    await withLease(bench.ctx, leases, async (ctx) => {
      const read = async (descriptor: ImageDescriptor): Promise<Document> =>
        // -- a manifest that was taken in as one
        JSON.parse(
          Buffer.from(await readDocument(ctx, content, descriptor)).toString(),
        ) as Document;
      const document = changed(await read(manifest), { types, given });
      const source = await writeDocument(ctx, content, document, manifest.mediaType);
      const options = { toOci: true, compression: undefined, platforms: anyPlatform };
      let converted: ImageDescriptor | undefined;
      const ended = await outcome(
        convertImage(ctx, content, source, options).then((one) => (converted = one)),
      );
      if (!converted) {
        assert.ok(["invalid-argument", "not-found"].includes(ended), ended);
        return;
      }
      const before = await childrenOf(ctx, content, source);
      const after = await childrenOf(ctx, content, converted);
      const parts = (all: readonly ImageDescriptor[]): unknown =>
        all.map(({ digest, sizeBytes }) => ({ digest, sizeBytes }));
      assert.deepEqual(parts(after), parts(before));
      assert.ok(![converted, ...after].some(isDocker));
      const {
        mediaType: _type,
        layers: _layers,
        config: _config,
        ...rest
      } = document as Record<string, unknown>;
      const {
        mediaType,
        layers: _l,
        config: _c,
        ...kept
      } = { ...(await read(converted)) } as Record<string, unknown>;
      assert.deepEqual(Object.entries(kept), Object.entries(rest));
      assert.equal(mediaType, converted.mediaType);
      assert.equal(digestOf(await readDocument(ctx, content, converted)), converted.digest);
      assert.deepEqual(await convertImage(ctx, content, converted, options), converted);
    });
  },
});
