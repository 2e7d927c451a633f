import assert from "node:assert";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { layerBytes, layerEntry } from "#test/fuzz/targets/layer-input.ts";
import { apply, factsOf, merged, overlay } from "#test/integration/diff/layer.ts";

/** Whatever a layer's names, links and bytes are, nothing outside of its root changes. */
export const target = fuzzTarget({
  name: "Apply",
  needsRoot: true,
  smokeRuns: 80,
  inputs: fc.record({
    entries: fc.array(layerEntry, { minLength: 1, maxLength: 12 }),
    damage: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
    stacked: fc.boolean(),
  }),
  async check({ entries, damage, stacked }, dir) {
    const [root, beyond] = [join(dir, "root"), join(dir, "outside")];
    for (const made of [root, beyond, join(beyond, "a")]) await mkdir(made);
    for (const name of ["secret", "a/b"]) await writeFile(join(beyond, name), "secret");
    const before = factsOf(beyond);
    const layer = layerBytes(entries, beyond);
    for (const [at, byte] of damage) layer[at % layer.length] = byte;
    await outcome(apply(root, layer, stacked ? overlay : merged));
    assert.deepStrictEqual(factsOf(beyond), before);
    assert.deepStrictEqual((await readdir(dir)).toSorted(), ["outside", "root"]);
  },
});
