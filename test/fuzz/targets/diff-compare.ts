import assert from "node:assert";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { compareTrees } from "#pkg/archive/compare-trees.ts";
import { copyTree } from "#pkg/archive/copy-tree.ts";
import { AT, O } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Fd } from "#pkg/sys/syscall.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { layerBytes, layerEntry } from "#test/fuzz/targets/layer-input.ts";
import { apply, factsOf, merged } from "#test/integration/diff/layer.ts";

function withDirectories<T>(dirs: readonly [string, string], use: (a: Fd, b: Fd) => T): T {
  using opened = new DisposableStack();
  const open = (dir: string): Fd =>
    opened.adopt(linux.openat(AT.FDCWD, dir, O.RDONLY | O.DIRECTORY), (fd) => linux.close(fd));
  return use(open(dirs[0]), open(dirs[1]));
}

function layerBetween(lower: string, upper: string): Buffer {
  return withDirectories([lower, upper], (a, b) =>
    Buffer.concat([...compareTrees(linux, { lower: a, upper: b })]),
  );
}

/** The layer between two trees makes the one of the other, and is the same bytes each time. */
export const target = fuzzTarget({
  name: "DiffCompare",
  needsRoot: true,
  smokeRuns: 40,
  inputs: fc.record({
    lower: fc.array(layerEntry, { maxLength: 12 }),
    change: fc.array(layerEntry, { maxLength: 12 }),
  }),
  async check({ lower, change }, dir) {
    const [from, to, made] = [join(dir, "from"), join(dir, "to"), join(dir, "made")];
    for (const root of [from, to, made]) await mkdir(root);
    // What is refused has made a part of the tree, which will do.
    await outcome(apply(from, layerBytes(lower, dir), merged));
    for (const copy of [to, made]) {
      withDirectories([from, copy], (a, b) => copyTree(linux, a, b, () => {}));
    }
    await outcome(apply(to, layerBytes(change, dir), merged));
    // A name that means "removed" in a layer, made through a symlink, no layer can hold: as upstream.
    if (Object.keys(factsOf(to)).some((name) => /(^|\/)\.wh\./.test(name))) return;
    const layer = layerBetween(from, to);
    assert.ok(layerBetween(from, to).equals(layer), "the bytes follow from the trees alone");
    await apply(made, layer, merged);
    const [{ ".": _made, ...ours }, { ".": _to, ...wanted }] = [factsOf(made), factsOf(to)];
    assert.deepStrictEqual(ours, wanted);
  },
});
