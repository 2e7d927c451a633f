import assert from "node:assert/strict";
import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Mounter } from "#core/mount/mounter.ts";
import { Context } from "#pkg/context.ts";
import { linux } from "#pkg/sys/linux.ts";
import {
  apply,
  directory,
  factsOf,
  file,
  type LayerEntry,
  layerOf,
  link,
  merged,
  needsRoot,
  overlay,
  scratch,
  symlink,
} from "./layer.ts";

const ctx = Context.background();
const mounter = new Mounter({ sys: linux, tempDir: tmpdir() });

/** What a container sees of layers applied each into a directory of its own. */
async function stacked(...layers: readonly Buffer[]): Promise<ReturnType<typeof factsOf>> {
  using top = scratch();
  const uppers: string[] = [];
  for (const [i, layer] of layers.entries()) {
    const upper = path.join(top.path, String(i));
    fs.mkdirSync(upper, { mode: 0o755 });
    // As the snapshotter has it: the lowest one is bound, not stacked.
    await apply(upper, layer, i === 0 ? merged : { ...overlay, parents: uppers });
    uppers.unshift(upper);
  }
  fs.mkdirSync(path.join(top.path, "empty"));
  const lowers = [...uppers, path.join(top.path, "empty")].join(":");
  const options = [`lowerdir=${lowers}`, "index=off"];
  const mount = { type: "overlay", source: "overlay", target: "", options };
  return await mounter.withTempMount(ctx, [mount], async (root) => factsOf(root));
}

/** The same layers, one after the other, into one directory. */
async function flat(...layers: readonly Buffer[]): Promise<ReturnType<typeof factsOf>> {
  using root = scratch();
  for (const layer of layers) await apply(root.path, layer, merged);
  return factsOf(root.path);
}

async function namesOf(...layers: readonly Buffer[]): Promise<string[]> {
  const [a, b] = [await stacked(...layers), await flat(...layers)];
  assert.deepEqual(a, b);
  return Object.keys(a).slice(1);
}

describe("whiteouts", { skip: needsRoot }, () => {
  const base = layerOf(
    directory("d"),
    file("d/a", "lower a"),
    directory("d/sub"),
    file("d/sub/x", "lower x"),
    file("f", "lower f"),
  );

  test("remove a file, a directory, nothing", async () => {
    const names = await namesOf(base, layerOf(file(".wh.f"), file("d/.wh.sub"), file(".wh.none")));
    assert.deepEqual(names, ["d", "d/a"]);
  });

  test("become what overlayfs wants, owned as the header says", async () => {
    using upper = scratch();
    await apply(
      upper.path,
      layerOf(file(".wh.f", "", { uid: 3, gid: 4 }), file("d/.wh..wh..opq")),
      overlay,
    );
    const device = fs.lstatSync(path.join(upper.path, "f"));
    assert.ok(device.isCharacterDevice());
    assert.deepEqual([device.rdev, device.uid, device.gid], [0, 3, 4]);
    const opaque = linux.lgetxattr(path.join(upper.path, "d"), "trusted.overlay.opaque");
    assert.equal(opaque?.toString(), "y");
    assert.deepEqual(fs.readdirSync(path.join(upper.path, "d")), []);
  });

  for (const order of ["before", "after", "between"] as const) {
    test(`an opaque marker ${order} the entries of its layer hides only lower ones`, async () => {
      const entries = [directory("d"), file("d/sub/new", "1"), file("d/b", "2")];
      const at = { before: 0, between: 2, after: 3 }[order];
      entries.splice(at, 0, file("d/.wh..wh..opq"));
      const names = await namesOf(base, layerOf(...entries));
      assert.deepEqual(names, ["d", "d/b", "d/sub", "d/sub/new", "f"]);
    });

    test(`a whiteout ${order} what its layer puts there hides only the lower one`, async () => {
      const entries = [directory("d"), file("d/new", "1"), file("f", "upper f")];
      const at = { before: 0, between: 1, after: 3 }[order];
      entries.splice(at, 0, file(".wh.d"), file(".wh.f"));
      const names = await namesOf(base, layerOf(...entries));
      assert.deepEqual(names, ["d", "d/new", "f"]);
    });
  }

  test("a whiteout below which its layer only implies a directory", async () => {
    assert.deepEqual(await namesOf(base, layerOf(file(".wh.d"), file("d/new", "1"))), [
      "d",
      "d/new",
      "f",
    ]);
  });

  test("a directory in place of a file of the same layer does not show the lower one", async () => {
    const names = await namesOf(base, layerOf(file("d", "x"), directory("d"), file("d/n")));
    assert.deepEqual(names, ["d", "d/n", "f"]);
  });

  test("an opaque root hides all", async () => {
    assert.deepEqual(await namesOf(base, layerOf(file("n"), file(".wh..wh..opq"))), ["n"]);
    assert.deepEqual(await namesOf(base, layerOf(file(".wh..wh..opq"), file("d/n"))), ["d", "d/n"]);
  });

  test("AUFS's own files are left out", async () => {
    const names = await namesOf(
      layerOf(directory(".wh..wh.plnk"), file(".wh..wh.aufs"), file("a")),
    );
    assert.deepEqual(names, ["a"]);
  });

  test("GHSA-rp3h-jf77-q9p4: thousands of opaque markers in nested directories stay linear", async () => {
    using root = scratch();
    const deep = Array.from({ length: 300 }, (_, i) => "d/".repeat(i + 1));
    await apply(root.path, layerOf(...deep.map((dir) => file(`${dir}f`, "x"))));
    const markers = deep.flatMap((dir) => [directory(dir), file(`${dir}.wh..wh..opq`)]);
    await apply(root.path, layerOf(...markers, ...markers.toReversed()));
    const files = Object.keys(factsOf(root.path)).filter((name) => name.endsWith("/f"));
    assert.deepEqual(files, []);
  });

  test("layers stacked by overlayfs look as layers unpacked into one directory", async () => {
    await fc.assert(
      fc.asyncProperty(layersArbitrary, async (layers) => {
        const bytes = layers.map((entries) => layerOf(...entries));
        assert.deepEqual(await stacked(...bytes), await flat(...bytes));
      }),
      { numRuns: 150 },
    );
  });
});

const part = fc.constantFrom("a", "b", "c");
const name = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const entryArbitrary: fc.Arbitrary<LayerEntry> = fc.oneof(
  fc.tuple(name, fc.constantFrom("1", "2")).map(([n, content]) => file(n, content)),
  fc.tuple(name, fc.constantFrom(0o700, 0o755)).map(([n, mode]) => directory(n, { mode })),
  name.map((n) => symlink(n, "t")),
  name.map((n) => file(n.replace(/[^/]+$/, ".wh.$&"))),
  name.map((n) => file(n.replace(/[^/]+$/, ".wh..wh..opq"))),
);

/**
 * Layers without paths through a file or symlink: there, as upstream, a layer stacked by overlayfs
 * makes a directory, while one unpacked into the merged tree follows the symlink.
 */
const layersArbitrary = fc
  .array(fc.array(entryArbitrary, { maxLength: 8 }), { minLength: 1, maxLength: 3 })
  .map((layers) => {
    const entries = layers.flat();
    const files = new Set(
      entries.filter((e) => e.type === "symlink" || isPlainFile(e)).map((e) => e.name),
    );
    return layers.map((layer) => {
      return layer.filter((e) => !prefixesOf(e.name).some((prefix) => files.has(prefix)));
    });
  });

function isPlainFile(entry: LayerEntry): boolean {
  return entry.type === "file" && !entry.name.includes(".wh.");
}

function prefixesOf(name: string): string[] {
  const parts = name.split("/");
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
}

test("hard links of a layer are one file", { skip: needsRoot }, async () => {
  using upper = scratch();
  await apply(upper.path, layerOf(file("a", "x"), link("b/c", "a")), overlay);
  const [a, c] = ["a", "b/c"].map((n) => fs.statSync(path.join(upper.path, n)).ino);
  assert.equal(a, c);
});
