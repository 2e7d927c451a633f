import assert from "node:assert/strict";
import { chownSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mount } from "#core/mount/mount.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const ctx = Context.background();
const mapping = ["uidmap=0:10000:1000,1000:7:1", "gidmap=0:20000:65536"];

interface Bench {
  readonly mounter: Mounter;
  /** A directory of that many layers; each has a file `f<n>` of its own user and group <n>. */
  layers(count: number): string[];
  folder(name: string): string;
  /** Owners as `user:group` of what is seen at the mounts, by path. */
  owners(mounts: readonly Mount[], paths: readonly string[]): Promise<string[]>;
  temporary(): string[];
}

function benchIn(room: Room): Bench {
  const folder = (name: string): string => {
    mkdirSync(join(room.dir, name), { recursive: true });
    return join(room.dir, name);
  };
  const tempDir = folder("temporary");
  const mounter = new Mounter({ sys: linux, tempDir });
  return {
    mounter,
    folder,
    layers: (count) =>
      Array.from({ length: count }, (_, i) => {
        const layer = folder(`layers/a,b:c-${i}/fs`);
        writeFileSync(join(layer, `f${i}`), "");
        chownSync(join(layer, `f${i}`), i, i);
        return layer;
      }),
    owners: (mounts, paths) =>
      mounter.withTempMount(ctx, mounts, async (root) =>
        paths.map((path) => {
          const { uid, gid } = statSync(join(root, path));
          return `${uid}:${gid}`;
        }),
      ),
    temporary: () => readdirSync(tempDir),
  };
}

function overlay(bench: Bench, lowers: readonly string[], ...more: readonly string[]): Mount {
  const escaped = lowers.map((lower) => lower.replaceAll(/[,:]/g, "\\$&"));
  const [upper, work] = [bench.folder("layers/up/fs"), bench.folder("layers/up/work")];
  chownSync(upper, 10_000, 20_000);
  const own = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${escaped.join(":")}`];
  return { type: "overlay", source: "overlay", target: "", options: [...own, ...more] };
}

for (const count of [1, 2, 150]) {
  roomTest(`an overlay of ${count} layers shows their owners mapped`, async (room) => {
    const bench = benchIn(room);
    const lowers = bench.layers(count);
    const mount = overlay(bench, lowers, ...mapping);
    const last = count - 1;
    assert.deepEqual(await bench.owners([mount], [".", "f0", `f${last}`]), [
      "10000:20000",
      "10000:20000",
      `${10_000 + last}:${20_000 + last}`,
    ]);
    assert.deepEqual(bench.temporary(), []);
    assert.equal(statSync(join(lowers[last] ?? "", `f${last}`)).uid, last);
  });
}

roomTest("an overlay of more layers than a page names is mounted below another", async (room) => {
  const bench = benchIn(room);
  const lowers = bench.layers(150);
  const source = bench.folder("outer");
  bench.folder("outer/in");
  const outer = { type: "bind", source, target: "", options: ["rbind"] };
  const plain = { ...overlay(bench, lowers), target: "in" };
  assert.deepEqual(await bench.owners([outer, plain], ["in/f9"]), ["9:9"]);
  const mapped = { ...overlay(bench, lowers, ...mapping), target: "in" };
  assert.deepEqual(await bench.owners([outer, mapped], ["in/f9"]), ["10009:20009"]);
});

roomTest("what is written through an overlay has the ids of the host", async (room) => {
  const bench = benchIn(room);
  const [lower = ""] = bench.layers(1);
  writeFileSync(join(lower, "stranger"), "");
  chownSync(join(lower, "stranger"), 5000, 5000);
  const mount = overlay(bench, [lower], ...mapping);
  await bench.mounter.withTempMount(ctx, [mount], async (root) => {
    writeFileSync(join(root, "f0"), "changed");
    assert.equal(statSync(join(root, "f0")).uid, 10_000);
    // Nobody's: only user 1000 is mapped above 999.
    assert.equal(statSync(join(root, "stranger")).uid, 65_534);
  });
  const upper = join(room.dir, "layers/up/fs/f0");
  assert.deepEqual([statSync(upper).uid, statSync(upper).gid], [10_000, 20_000]);
  assert.equal(statSync(join(lower, "f0")).uid, 0);
});

roomTest("bind mounts and other file systems are mapped, read-only or not", async (room) => {
  const bench = benchIn(room);
  const source = bench.folder("source");
  chownSync(source, 1, 2);
  const inside = bench.folder("source/tmp");
  const bind = { type: "bind", source, target: "", options: [...mapping, "rw", "rbind"] };
  assert.deepEqual(await bench.owners([bind], ["."]), ["10001:20002"]);
  const readOnly = { ...bind, options: [...mapping, "ro", "rbind"] };
  await bench.mounter.withTempMount(ctx, [readOnly], async (root) => {
    assert.equal(statSync(root).uid, 10_001);
    assert.throws(() => chownSync(root, 10_002, 20_002), { code: "EROFS" });
  });
  const below = { ...bind, source: inside, target: "tmp" };
  assert.deepEqual(await bench.owners([bind, below], ["tmp"]), ["10000:20000"]);
  const tmpfs = { type: "tmpfs", source: "tmpfs", target: "", options: ["mode=755", ...mapping] };
  assert.deepEqual(await bench.owners([tmpfs], ["."]), ["10000:20000"]);
  const users = { ...bind, options: ["uidmap=0:10000:10", "rbind"] };
  assert.deepEqual(await bench.owners([users], ["."]), ["10001:2"]);
});

roomTest("a mapping that cannot be made leaves nothing mounted", async (room) => {
  const bench = benchIn(room);
  const target = bench.folder("target");
  const lowers = bench.layers(2);
  const tries: readonly (readonly [Mount, string, RegExp])[] = [
    [overlay(bench, lowers, "uidmap=0:1"), "invalid-argument", /id mapping "0:1": expected/],
    [
      overlay(bench, lowers, "uidmap=0:1:5,2:9:5"),
      "unknown",
      /uidmap=0:1:5,2:9:5.*invalid argument/,
    ],
    [
      overlay(bench, ["/proc", "/sys"], ...mapping),
      "invalid-argument",
      /no directory holds them all/,
    ],
    [overlay(bench, [...lowers, "/no"], ...mapping), "invalid-argument", /no directory holds/],
    [overlay(bench, [join(room.dir, "x"), ...lowers], ...mapping), "unknown", /no such file/],
  ];
  for (const [mount, code, message] of tries) {
    await assert.rejects(bench.mounter.mountAll(ctx, [mount], target), (error: Error) => {
      assert.match(error.message, message);
      return codeOf(error) === code;
    });
    assert.equal(linux.fstatat(-100, target, 0).isMountRoot, false);
  }
  assert.deepEqual(bench.temporary(), []);
});
