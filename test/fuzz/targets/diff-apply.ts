import assert from "node:assert";
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { applyLayer } from "#pkg/archive/apply-layer.ts";
import { messageOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { layerBytes, layerEntry } from "#test/fuzz/targets/layer-input.ts";
import { factsOf, merged } from "#test/integration/diff/layer.ts";

async function* pieces(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

/** The tree and the digest that come of it, or what was said instead. */
async function applied(root: string, bytes: Buffer, pieceLength: number): Promise<object | string> {
  await mkdir(root);
  try {
    const layer = pieces(bytes, pieceLength);
    const { diffId, sizeBytes } = await applyLayer(linux, root, layer, merged, () => {});
    return { diffId, sizeBytes, tree: factsOf(root) };
  } catch (error) {
    return messageOf(error).replaceAll(root, "");
  }
}

/** A layer makes the same tree, or is refused with the same words, however it is compressed and cut into pieces. */
export const target = fuzzTarget({
  name: "DiffApply",
  needsRoot: true,
  smokeRuns: 60,
  inputs: fc.record({
    entries: fc.array(layerEntry, { maxLength: 10 }),
    pieceLength: fc.integer({ min: 1, max: 3000 }),
  }),
  async check({ entries, pieceLength }, dir) {
    const layer = layerBytes(entries, join(dir, "outside"));
    const whole = await applied(join(dir, "whole"), layer, layer.length);
    for (const [name, bytes] of [
      ["plain", layer],
      ["gzip", gzipSync(layer)],
      ["zstd", zstdCompressSync(layer)],
    ] as const) {
      const tree = await applied(join(dir, name), bytes, pieceLength);
      assert.deepStrictEqual(tree, whole, name);
    }
    if (typeof whole === "string") return;
    const diffId = `sha256:${createHash("sha256").update(layer).digest("hex")}`;
    assert.strictEqual((whole as { diffId: string }).diffId, diffId); // -- made above
  },
});
