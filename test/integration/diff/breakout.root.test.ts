import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { applyLayer } from "#pkg/archive/apply-layer.ts";
import { codeOf } from "#pkg/errors.ts";
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

interface Attack {
  readonly title: string;
  readonly entries: (outside: string) => readonly LayerEntry[];
  /** Where the harmless outcome is; undefined: refused. */
  readonly lands?: (outside: string) => string;
}

const attacks: readonly Attack[] = [
  { title: "..", entries: () => [file("../../../victim", "evil")], lands: () => "victim" },
  {
    title: "absolute name",
    entries: (o) => [file(`${o}/victim`, "evil")],
    lands: (o) => `${o}/victim`,
  },
  {
    title: "CVE-2021-29136: the root itself as a symlink",
    entries: (o) => [symlink(".", o), symlink("/", o), file("victim", "evil")],
    lands: () => "victim",
  },
  {
    title: "absolute symlink as parent",
    entries: (o) => [symlink("l", o), file("l/victim", "evil")],
    lands: (o) => `${o}/victim`,
  },
  {
    title: "relative symlink as parent",
    entries: (o) => [symlink("l", `../../../../../../../..${o}`), file("l/victim", "evil")],
    lands: (o) => `${o}/victim`,
  },
  {
    title: "a chain of symlinks as parent",
    entries: (o) => [
      directory("a"),
      symlink("a/up", ".."),
      symlink("b", "a/up/../../.."),
      symlink("c", `b${o}`),
      file("c/victim", "evil"),
    ],
    lands: (o) => `${o}/victim`,
  },
  {
    title: "a directory swapped for a symlink after it was used",
    entries: (o) => [
      directory("d"),
      file("d/first", "1"),
      symlink("d", o),
      file("d/victim", "evil"),
    ],
    lands: (o) => `${o}/victim`,
  },
  {
    title: "a file written through a symlink of the same name",
    entries: (o) => [symlink("l", `${o}/victim`), file("l", "evil")],
    lands: () => "l",
  },
  { title: "hard link to outside", entries: (o) => [link("h", `${o}/victim`), file("h", "evil")] },
  {
    title: "hard link through a symlinked parent",
    entries: (o) => [symlink("l", o), link("h", "l/victim"), file("h", "evil")],
  },
  {
    title: "hard link to a symlink to outside, then written to",
    entries: (o) => [symlink("l", `${o}/victim`), link("h", "l"), file("h", "evil")],
    lands: () => "h",
  },
  {
    title: "CVE-2021-32760: mode and owner through a symlink",
    entries: (o) => [symlink("l", `${o}/victim`), link("h", "l", { mode: 0o777, uid: 1000 })],
    lands: () => "h",
  },
  {
    title: "a directory's mode and times through a symlink",
    entries: (o) => [directory("d", { mode: 0o777 }), symlink("d", o)],
    lands: () => "d",
  },
  { title: "whiteout outside by ..", entries: () => [file("../../.wh.victim")] },
  { title: "whiteout through a symlink", entries: (o) => [symlink("l", o), file("l/.wh.victim")] },
  {
    title: "opaque through a symlink",
    entries: (o) => [symlink("l", o), file("l/.wh..wh..opq")],
  },
  { title: "device through a symlink", entries: (o) => [symlink("l", o), deviceIn("l")] },
];

function deviceIn(dir: string): LayerEntry {
  return { type: "character", name: `${dir}/null`, device: { major: 1, minor: 3 } };
}

describe("a hostile layer stays inside its root", { skip: needsRoot }, () => {
  for (const form of [merged, overlay]) {
    for (const { title, entries, lands } of attacks) {
      test(`${title} (${form.whiteouts})`, async () => {
        using top = scratch();
        const outside = path.join(top.path, "outside");
        const root = path.join(top.path, "root");
        fs.mkdirSync(outside);
        fs.mkdirSync(root);
        fs.writeFileSync(path.join(outside, "victim"), "untouched");
        fs.utimesSync(path.join(outside, "victim"), 1, 1);
        const before = JSON.stringify([factsOf(outside), fs.statSync(outside).mtimeMs]);
        await apply(root, layerOf(...entries(outside)), form).catch((error: unknown) => {
          assert.equal(lands, undefined, String(error));
        });
        assert.equal(JSON.stringify([factsOf(outside), fs.statSync(outside).mtimeMs]), before);
        assert.deepEqual(fs.readdirSync(top.path).sort(), ["outside", "root"]);
        const landed = lands?.(outside);
        if (landed !== undefined) assert.ok(fs.lstatSync(path.join(root, landed)));
      });
    }
  }

  for (const name of [".wh.", ".wh..", ".wh...", "a/.wh..."]) {
    test(`the whiteout ${name} is refused`, async () => {
      using root = scratch();
      await assert.rejects(
        apply(root.path, layerOf(directory("a"), file(name))),
        (error: Error) => {
          assert.match(error.message, /invalid whiteout name: .*: invalid archive$/);
          return codeOf(error) === "invalid-argument";
        },
      );
    });
  }

  test("CVE-2025-47290: a directory swapped for a symlink between entries leads nowhere", async () => {
    using top = scratch();
    const outside = path.join(top.path, "outside");
    const root = path.join(top.path, "root");
    for (const dir of [outside, root]) fs.mkdirSync(dir);
    const first = layerOf(directory("d"), directory("d/e"), file("d/e/one", "1"));
    const second = layerOf(file("d/e/victim", "evil"), directory("d/e/sub"), file("d/e/sub/x"));
    const swap = async function* (): AsyncGenerator<Buffer, void, undefined> {
      yield first.subarray(0, -1024);
      // By someone else, between looking at the directory and writing into it.
      fs.renameSync(path.join(root, "d"), path.join(root, "away"));
      fs.symlinkSync(outside, path.join(root, "d"));
      yield second;
    };
    await applyLayer(linux, root, swap(), merged, () => {}).catch((error: unknown) => {
      assert.ok(error instanceof Error);
    });
    assert.deepEqual(fs.readdirSync(outside), []);
  });
});
