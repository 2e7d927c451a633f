import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import {
  apply,
  directory,
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

interface Case {
  readonly title: string;
  /** What the layers below have put there; with overlays these are another directory. */
  readonly lower?: readonly LayerEntry[];
  readonly layer: readonly LayerEntry[];
  /** Names of one file, by paths without symlinks in them. */
  readonly same?: readonly [string, string];
  /** Content by path, undefined where nothing is. */
  readonly content?: Readonly<Record<string, string | undefined>>;
}

const passwd = [directory("etc", { mode: 0o770 }), file("/etc/passwd", "inside")];

const cases: readonly Case[] = [
  {
    title: "a file through an absolute symlink lands inside",
    layer: [directory("etc"), symlink("localetc", "/etc"), file("/localetc/f", "f")],
    content: { "etc/f": "f" },
  },
  {
    title: "a file through a symlink that climbs out lands inside",
    layer: [
      directory("etc"),
      directory("dummy"),
      symlink("localetc", "../../dummy/../etc"),
      file("localetc/f", "f"),
    ],
    content: { "etc/f": "f" },
  },
  {
    title: "a file through symlinks to absolute symlinks lands inside",
    layer: [
      directory("etc"),
      directory("dummy"),
      symlink("/dummy/etc", "/etc"),
      symlink("localetc", "dummy/etc"),
      file("/localetc/f", "f"),
    ],
    content: { "etc/f": "f" },
  },
  {
    title: "an empty file through a symlink empties what is there",
    layer: [directory("etc"), file("etc/f", "full"), symlink("l", "/etc"), file("/l/f")],
    content: { "etc/f": "" },
  },
  {
    title: "a hard link through a relative symlink in its target",
    layer: [
      ...passwd,
      directory("b"),
      symlink("b/d1", "../../etc"),
      link("b/mine", "/b/d1/passwd"),
    ],
    same: ["b/mine", "etc/passwd"],
  },
  {
    title: "a hard link down and out",
    layer: [
      ...passwd,
      directory("b"),
      directory("down"),
      symlink("b/d1", "../down/../../etc"),
      link("b/mine", "/b/d1/passwd"),
    ],
    same: ["b/mine", "etc/passwd"],
  },
  {
    title: "a hard link by an absolute name",
    layer: [...passwd, link("mine", "/etc/passwd")],
    same: ["mine", "etc/passwd"],
  },
  {
    title: "a hard link by a name that climbs out",
    layer: [...passwd, link("mine", "../../../../../etc/passwd")],
    same: ["mine", "etc/passwd"],
  },
  {
    title: "a hard link into a directory that is implied, of a name with a slash at its end",
    layer: [...passwd, link("/localetc/mine", "/etc/passwd")],
    same: ["localetc/mine", "etc/passwd"],
  },
  {
    title: "entries named .. and with no name are the root, and nothing is made of them",
    layer: [...passwd, symlink("..", "/etc/"), symlink("", "/etc"), link("mine", "/etc/passwd")],
    same: ["mine", "etc/passwd"],
  },
  {
    title: "a name that goes down and up again is what is left of it",
    layer: [...passwd, symlink("localetc/sub/..", "/etc/"), link("localetc/mine", "/etc/passwd")],
    same: ["etc/mine", "etc/passwd"],
  },
  {
    title: "a symlink takes the place of a directory",
    lower: [...passwd, directory("localetc"), file("localetc/old")],
    layer: [...passwd, symlink("localetc", "../../etc"), link("localetc/mine", "/etc/passwd")],
    same: ["etc/mine", "etc/passwd"],
  },
  {
    title: "a directory takes the place of a symlink",
    lower: [...passwd, symlink("localetc", "/etc")],
    layer: [...passwd, directory("localetc"), link("localetc/mine", "/etc/passwd")],
    same: ["localetc/mine", "etc/passwd"],
    content: { "etc/mine": undefined },
  },
  {
    title: "a file takes the place of one name of a hard link, and the other keeps its content",
    lower: [...passwd, link("etc/copy", "etc/passwd")],
    layer: [file("etc/copy", "different")],
    content: { "etc/copy": "different" },
  },
  {
    title: "a hard link to a symlink to what comes later",
    layer: [
      directory("etc"),
      symlink("a", "/etc/passwd"),
      link("b", "a"),
      file("etc/passwd", "after"),
    ],
    same: ["a", "b"],
    content: { "etc/passwd": "after" },
  },
  {
    title: "a directory under a name that was a symlink to the root",
    layer: [
      directory("foo"),
      directory("foo/tmp"),
      file("foo/tmp/f", "1"),
      symlink("foo", "/"),
      file("foo/tmp/f", "2"),
      directory("foo"),
      directory("foo/tmp"),
      file("foo/tmp/f", "3"),
    ],
    content: { "foo/tmp/f": "3", "tmp/f": "2" },
  },
  {
    title: "below a name that only looks like a whiteout there are files",
    layer: [...passwd, file(".wh.etc/f", "not empty")],
    content: { ".wh.etc/f": "not empty", "etc/passwd": "inside" },
  },
];

describe("links of a layer", { skip: needsRoot }, () => {
  for (const form of [merged, overlay]) {
    for (const { title, lower = [], layer, same, content = {} } of cases) {
      test(`${title} (${form.whiteouts})`, async () => {
        using below = scratch();
        using root = scratch();
        const isOverlay = form.whiteouts === "overlay";
        await apply(isOverlay ? below.path : root.path, layerOf(...lower));
        const options = isOverlay ? { ...form, parents: [below.path] } : form;
        await apply(root.path, layerOf(...layer), options);
        if (same) {
          const [a, b] = same.map((name) => fs.lstatSync(path.join(root.path, name)).ino);
          assert.equal(a, b);
        }
        for (const [name, text] of Object.entries(content)) {
          assert.equal(textOf(path.join(root.path, name)), text, name);
        }
      });
    }
  }

  test("whiteouts through symlinks, of dead ones and of symlinks themselves", async () => {
    using root = scratch();
    await apply(
      root.path,
      layerOf(
        ...passwd,
        file("etc/old", "x"),
        symlink("l", "/etc"),
        symlink("dead", "/dne"),
        symlink("gone", "/etc"),
      ),
    );
    await apply(
      root.path,
      layerOf(file("l/.wh.old"), file("dead/.wh.etc"), file(".wh.gone"), file("dne/../.wh.none")),
    );
    assert.equal(textOf(path.join(root.path, "etc/passwd")), "inside");
    assert.equal(textOf(path.join(root.path, "etc/old")), undefined);
    assert.ok(!fs.readdirSync(root.path).includes("gone"));
    await apply(root.path, layerOf(file("dne/../.wh.etc")));
    assert.ok(!fs.readdirSync(root.path).includes("etc"));
  });

  test("a circle of symlinks is an error that names the entry", async () => {
    using root = scratch();
    const layer = layerOf(symlink("a", "b"), symlink("b", "a"), file("a/f", "x"));
    await assert.rejects(
      apply(root.path, layer),
      /unpack "a\/f": .*too many (?:levels of )?symbolic links/i,
    );
  });
});

function textOf(file: string): string | undefined {
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : undefined;
}
