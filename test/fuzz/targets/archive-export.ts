import assert from "node:assert";
import { join } from "node:path";
import fc from "fast-check";
import { readBlob } from "#core/content/content.ts";
import { parseDigest } from "#pkg/digest.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { openImageBench } from "#test/fuzz/targets/image-bench.ts";
import { imageFrom, imageInput } from "#test/fuzz/targets/image-input.ts";
import { buildIndex, hostPlatform, ociArchive } from "#test/support/images.ts";

const name = "docker.io/library/fuzz:1";

/** What is exported is imported elsewhere as the same image, and is the same bytes each time. */
export const target = fuzzTarget({
  name: "ArchiveExport",
  smokeRuns: 12,
  inputs: fc.record({ image: imageInput, other: fc.option(imageInput) }),
  async check({ image: input, other }, dir) {
    const own = imageFrom(input);
    const second = { ...hostPlatform, architecture: "s390x" };
    const image = other
      ? buildIndex([
          { image: own, platform: hostPlatform },
          { image: imageFrom(other, second.architecture), platform: second },
        ])
      : own;
    await using here = await openImageBench(join(dir, "here"));
    await here.importArchive(ociArchive(image, name));
    const archive = await here.exportArchive(name);
    assert.ok((await here.exportArchive(name)).equals(archive), "the same bytes each time");
    await using there = await openImageBench(join(dir, "there"));
    await there.importArchive(archive);
    const { metadata } = there.storage;
    const imported = await metadata.images.get(there.ctx, name);
    assert.strictEqual(imported.target.digest, image.target.digest);
    await metadata.collector.scheduleAndWait(there.ctx);
    for (const [digest, bytes] of image.blobs) {
      const blob = { digest: parseDigest(digest) };
      const read = await readBlob(there.ctx, metadata.content, blob, bytes.length);
      assert.ok(Buffer.from(bytes).equals(read), digest);
    }
  },
});
