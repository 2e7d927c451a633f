import assert from "node:assert";
import fc from "fast-check";
import { childrenOf } from "#core/images/manifest.ts";
import { walk } from "#core/images/walk.ts";
import { parseDigest } from "#pkg/digest.ts";
import { isNotFound } from "#pkg/errors.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { openImageBench } from "#test/fuzz/targets/image-bench.ts";
import { imageFrom, imageInput } from "#test/fuzz/targets/image-input.ts";
import { ociArchive } from "#test/support/images.ts";

const name = "docker.io/library/fuzz:1";

/** A walk over an image finds exactly what is missing of it, and an export says that something is. */
export const target = fuzzTarget({
  name: "ImagesCheck",
  smokeRuns: 15,
  inputs: fc.record({ image: imageInput, lost: fc.array(fc.nat(6), { maxLength: 3 }) }),
  async check({ image: input, lost }, dir) {
    const image = imageFrom(input);
    await using bench = await openImageBench(dir);
    const { ctx, storage } = bench;
    const { content, images } = storage.metadata;
    await bench.importArchive(ociArchive(image, name));
    const digests = [...image.blobs.keys()];
    const gone = new Set(lost.map((n) => digests[n]).filter((digest) => digest !== undefined));
    for (const digest of gone) await content.delete(ctx, parseDigest(digest));
    const isUnreadable = gone.has(image.target.digest);

    const missing = new Set<string>();
    const { target: root } = await images.get(ctx, name);
    await walk(
      ctx,
      async (at, descriptor) => {
        try {
          await content.info(at, descriptor.digest);
          return await childrenOf(at, content, descriptor);
        } catch (error) {
          if (!isNotFound(error)) throw error;
          missing.add(descriptor.digest);
          return [];
        }
      },
      [root],
    );
    const expected = isUnreadable ? new Set([image.target.digest]) : gone;
    assert.deepStrictEqual([...missing].toSorted(), [...expected].toSorted());
    const exported = await outcome(bench.exportArchive(name));
    assert.strictEqual(exported, gone.size === 0 ? "ok" : "not-found");
  },
});
