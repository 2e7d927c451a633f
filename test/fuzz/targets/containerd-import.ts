import assert from "node:assert";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { assertTidy, openImageBench } from "#test/fuzz/targets/image-bench.ts";
import { imageFrom, imageInput } from "#test/fuzz/targets/image-input.ts";
import { ociArchive } from "#test/support/images.ts";
import { tar } from "#test/support/tar.ts";

const damage = fc.record({
  do: fc.constantFrom("set", "drop", "repeat" as const),
  at: fc.nat(),
  bytes: fc.nat(600),
  value: fc.nat(255),
});
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never;

function damaged(archive: Buffer, all: readonly Damage[]): Buffer {
  let now = archive;
  for (const one of all) {
    const at = now.length === 0 ? 0 : one.at % now.length;
    const [before, after] = [now.subarray(0, at), now.subarray(at)];
    if (one.do === "set") {
      now = Buffer.from(now);
      if (now.length > 0) now[at] = one.value;
    } else if (one.do === "drop") now = Buffer.concat([before, after.subarray(one.bytes)]);
    else now = Buffer.concat([before, after.subarray(0, one.bytes), after]);
  }
  return now;
}

/** An archive that is damaged is refused or taken for what it still says, and leaves nothing half done. */
export const target = fuzzTarget({
  name: "ContainerdImport",
  smokeRuns: 40,
  inputs: fc.record({
    image: imageInput,
    saved: fc.boolean(),
    compression: fc.constantFrom("none", "gzip", "zstd" as const),
    damage: fc.array(damage, { maxLength: 4 }),
  }),
  async check({ image: input, saved, compression, damage }, dir) {
    const image = imageFrom(input);
    const archive = damaged(
      saved ? savedArchive(image.blobs) : ociArchive(image, "docker.io/library/f:1"),
      damage,
    );
    const compress = { none: (b: Buffer) => b, gzip: gzipSync, zstd: zstdCompressSync }[
      compression
    ];
    await using bench = await openImageBench(dir);
    const ended = await outcome(bench.importArchive(compress(archive)));
    const answers = [
      "ok",
      "invalid-argument",
      "not-found",
      "data-loss",
      "failed-precondition",
      "unknown",
    ];
    assert.ok(answers.includes(ended), ended);
    if (damage.length === 0) assert.strictEqual(ended, "ok");
    await assertTidy(bench);
  },
});

/** As `docker save` writes it: the configuration is the only blob that is JSON with a root file system. */
function savedArchive(blobs: ReadonlyMap<string, Uint8Array>): Buffer {
  const files = [...blobs].map(([digest, content]) => ({ path: digest.slice(7), content }));
  const isConfig = (bytes: Uint8Array): boolean => Buffer.from(bytes).includes('"diff_ids"');
  const config = files.find(({ content }) => isConfig(content));
  const layers = files.filter(({ content }) => content[0] !== 0x7b).map(({ path }) => path);
  const manifest = [{ Config: config?.path, RepoTags: ["f:1"], Layers: layers }];
  return tar([...files, { path: "manifest.json", content: JSON.stringify(manifest) }]);
}
