import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { linux } from "#pkg/sys/linux.ts";
import {
  apply,
  directory,
  factsOf,
  file,
  type LayerEntry,
  layerOf,
  link,
  needsRoot,
  scratch,
  symlink,
} from "./layer.ts";

const tar = "tar";
const numeric = ["--warning=no-timestamp", "--numeric-owner", "--xattrs", "--xattrs-include=*"];

function unpackByGnu(root: string, layer: Buffer): void {
  execFileSync(tar, ["-C", root, "-x", "-p", "--same-owner", ...numeric, "-f", "-"], {
    input: layer,
  });
}

// No NUL, no slash; "." and ".." have meanings of their own, and a leading dot could make a
// whiteout.
const byte = fc.integer({ min: 1, max: 255 }).filter((c) => c !== 0x2f);
const part = fc
  .array(byte, { minLength: 1, maxLength: 40 })
  .map((codes) => `n${Buffer.from(codes).toString("latin1")}`);
const name = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join("/"));
const meta = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.constantFrom(0, 1, 65_534, 2_097_152, 4_000_000_000),
  gid: fc.constantFrom(0, 5, 3_000_000),
  mtimeNs: fc.integer({ min: 0, max: 2 ** 33 }).map((s) => BigInt(s) * 1_000_000_000n),
});
const content = fc.uint8Array({ maxLength: 3000 }).map((data) => Buffer.from(data));
const entry: fc.Arbitrary<LayerEntry> = fc.oneof(
  fc.tuple(name, content, meta).map(([n, data, m]) => file(n, data, m)),
  fc.tuple(name, meta).map(([n, m]) => directory(`${n}/`, m)),
  fc.tuple(name, part, meta).map(([n, target, m]) => symlink(n, target, m)),
  fc.tuple(name, meta).map(([n, m]): LayerEntry => ({ type: "fifo", name: n, ...m })),
  fc.tuple(name, meta).map(
    ([n, m]): LayerEntry => ({
      type: "character",
      name: n,
      device: { major: 5, minor: 1 },
      ...m,
    }),
  ),
);

/**
 * A tree as an archiver finds it: every name once, parents first, no entry below what is no
 * directory.
 */
const tree = fc.array(entry, { maxLength: 8 }).map((entries) => {
  const taken = new Map<string, "directory" | "other">();
  const kept: LayerEntry[] = [];
  for (const e of entries) {
    const parts = e.name.replace(/\/$/, "").split("/");
    const parents = parts.slice(0, -1).map((_, i) => parts.slice(0, i + 1).join("/"));
    if (taken.has(parts.join("/")) || parents.some((p) => taken.get(p) === "other")) continue;
    for (const parent of parents) {
      if (!taken.has(parent)) kept.push(directory(`${parent}/`));
      taken.set(parent, "directory");
    }
    taken.set(parts.join("/"), e.type === "directory" ? "directory" : "other");
    kept.push(e);
    if (e.type === "file" && kept.length % 2 === 0) {
      taken.set(`${e.name}-link`, "other");
      const { mode = 0, uid = 0, gid = 0, mtimeNs = 0n } = e;
      kept.push(link(`${e.name}-link`, e.name, { mode, uid, gid, mtimeNs }));
    }
  }
  return kept;
});

describe("GNU tar", { skip: needsRoot }, () => {
  test("unpacks what we write as we do", async () => {
    await fc.assert(
      fc.asyncProperty(tree, async (entries) => {
        const layer = layerOf(...entries);
        using both = pair();
        const [ours, gnus] = both;
        await apply(ours.path, layer);
        unpackByGnu(gnus.path, layer);
        assert.deepEqual(timedFacts(ours.path), timedFacts(gnus.path));
      }),
      { numRuns: 60 },
    );
  });

  for (const format of ["pax", "gnu", "ustar", "v7"] as const) {
    test(`writes ${format}, which we read back`, async () => {
      await fc.assert(
        fc.asyncProperty(tree, async (entries) => {
          const some = entries.filter((e) => fits(format, e));
          using both = pair();
          const [source, ours] = both;
          await apply(source.path, layerOf(...some));
          const args = [
            "-C",
            source.path,
            "-c",
            `--format=${format}`,
            ...(format === "pax" ? numeric : []),
            ".",
          ];
          const layer = execFileSync(tar, args, { maxBuffer: 1 << 26 });
          await apply(ours.path, layer);
          assert.deepEqual(timedFacts(ours.path), timedFacts(source.path));
        }),
        { numRuns: 25 },
      );
    });
  }

  for (const version of ["0.0", "0.1", "1.0", "gnu"] as const) {
    test(`writes sparse files (${version}), which we unpack with their holes`, async () => {
      using both = pair();
      const [source, ours] = both;
      const original = path.join(source.path, "sparse");
      const fd = fs.openSync(original, "w");
      for (let i = 0; i < 60; i++)
        fs.writeSync(fd, Buffer.alloc(4096, 65 + (i % 26)), 0, 4096, i * 1_000_000);
      fs.ftruncateSync(fd, 100_000_000);
      fs.closeSync(fd);
      const format =
        version === "gnu" ? ["--format=gnu"] : ["--format=pax", `--sparse-version=${version}`];
      const layer = execFileSync(tar, ["-C", source.path, "-c", "-S", ...format, "."], {
        maxBuffer: 1 << 26,
      });
      assert.ok(layer.length < 2_000_000);
      await apply(ours.path, layer);
      const copy = path.join(ours.path, "sparse");
      assert.deepEqual(factsOf(ours.path)["sparse"], factsOf(source.path)["sparse"]);
      assert.ok(fs.statSync(copy).blocks * 512 < 2_000_000);
      assert.equal(fs.statSync(copy).size, 100_000_000);
    });
  }

  test("writes binary attributes, which we unpack", async () => {
    using both = pair();
    const [source, ours] = both;
    const original = path.join(source.path, "f");
    fs.writeFileSync(original, "x");
    linux.lsetxattr(original, "user.bin", Buffer.from([0, 10, 61, 255]));
    const layer = execFileSync(tar, ["-C", source.path, "-c", "--format=pax", ...numeric, "."]);
    await apply(ours.path, layer);
    const value = linux.lgetxattr(path.join(ours.path, "f"), "user.bin");
    assert.deepEqual(value, Buffer.from([0, 10, 61, 255]));
  });
});

/** What old formats can hold at all. */
function fits(format: "pax" | "gnu" | "ustar" | "v7", e: LayerEntry): boolean {
  if (format === "pax" || format === "gnu") return true;
  const isShort = e.name.length < 80 && (e.linkName ?? "").length < 80;
  const hasSmallIds = (e.uid ?? 0) < 2_097_152 && (e.gid ?? 0) < 2_097_152;
  const isOld = e.type === "file" || e.type === "directory" || e.type === "symlink";
  return isShort && hasSmallIds && (format === "ustar" || isOld);
}

function pair(): [ReturnType<typeof scratch>, ReturnType<typeof scratch>] & Disposable {
  const [a, b] = [scratch(), scratch()];
  const both: [typeof a, typeof b] = [a, b];
  return Object.assign(both, {
    [Symbol.dispose]() {
      a[Symbol.dispose]();
      b[Symbol.dispose]();
    },
  });
}

/** Facts and whole seconds of everything but the root. */
function timedFacts(root: string): Record<string, unknown> {
  const { ".": _, ...facts } = factsOf(root);
  const timed = Object.entries(facts).map(([name, fact]) => {
    const stat = fs.lstatSync(Buffer.from(path.posix.join(root, name), "latin1"));
    return [name, { ...fact, nlink: stat.nlink, mtime: Math.floor(stat.mtimeMs / 1000) }] as const;
  });
  return Object.fromEntries(timed);
}
