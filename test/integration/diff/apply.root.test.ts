import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import zlib from "node:zlib";
import { codeOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import {
  apply,
  directory,
  factsOf,
  file,
  layerOf,
  link,
  merged,
  needsRoot,
  overlay,
  scratch,
  symlink,
} from "./layer.ts";

const read = (root: string, name: string): string => fs.readFileSync(path.join(root, name), "utf8");
const stat = (root: string, name: string): fs.Stats => fs.lstatSync(path.join(root, name));
const isInvalid = (error: unknown): boolean => codeOf(error) === "invalid-argument";

describe("a layer applied", { skip: needsRoot }, () => {
  test("answers the digest and size of all its plain bytes, trailing ones too", async () => {
    using root = scratch();
    const layer = Buffer.concat([layerOf(file("a", "x")), Buffer.alloc(20_480)]);
    for (const bytes of [layer, zlib.gzipSync(layer), zlib.zstdCompressSync(layer)]) {
      const applied = await apply(root.path, bytes);
      assert.equal(applied.sizeBytes, layer.length);
      assert.equal(applied.diffId, `sha256:${createHash("sha256").update(layer).digest("hex")}`);
    }
    assert.equal(read(root.path, "a"), "x");
  });

  test("takes gzip members and zstd frames in a row, skippable ones included", async () => {
    const layer = layerOf(file("a", "x".repeat(5000)));
    const [one, two] = [layer.subarray(0, 700), layer.subarray(700)];
    const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]);
    const zstd = [one, two].map((part) => zlib.zstdCompressSync(part));
    for (const bytes of [
      Buffer.concat([zlib.gzipSync(one), zlib.gzipSync(two)]),
      Buffer.concat([skippable, zstd[0] ?? one, skippable, zstd[1] ?? two, skippable]),
    ]) {
      using root = scratch();
      assert.equal((await apply(root.path, bytes)).sizeBytes, layer.length);
      assert.equal(read(root.path, "a").length, 5000);
    }
  });

  test("says when it was cut off or damaged", async () => {
    using root = scratch();
    const layer = layerOf(file("a", Buffer.alloc(100_000, "ab")));
    const gzip = zlib.gzipSync(layer);
    const zstd = zlib.zstdCompressSync(layer);
    const cases: readonly (readonly [Buffer, string, RegExp])[] = [
      [gzip.subarray(0, -20), "data-loss", /gzip stream is truncated: unexpected EOF/],
      [zstd.subarray(0, -5), "data-loss", /zstd stream is truncated: unexpected EOF/],
      [layer.subarray(0, 60_000), "invalid-argument", /ends early in "a": unexpected EOF/],
      [layer.subarray(0, 300), "invalid-argument", /ends early: unexpected EOF/],
    ];
    for (const [bytes, code, message] of cases) {
      await assert.rejects(apply(root.path, bytes), (error: Error) => {
        assert.equal(codeOf(error), code);
        assert.match(error.message, message);
        return true;
      });
    }
    const damaged = Buffer.from(gzip);
    damaged[gzip.length - 6] = 0xff ^ (gzip[gzip.length - 6] ?? 0);
    await assert.rejects(apply(root.path, damaged), /gzip stream is damaged/);
  });

  test("an empty layer is no error", async () => {
    using root = scratch();
    assert.equal((await apply(root.path, Buffer.alloc(1024))).sizeBytes, 1024);
    assert.equal((await apply(root.path, Buffer.alloc(0))).sizeBytes, 0);
  });

  test("gives modes whatever the umask, and keeps set-id bits over a chown", async () => {
    using root = scratch();
    const umask = process.umask(0o077);
    try {
      const layer = layerOf(
        directory("d", { mode: 0o1777, uid: 5, gid: 6 }),
        file("d/suid", "x", { mode: 0o4755, uid: 1000, gid: 1000 }),
        { type: "fifo", name: "d/fifo", mode: 0o666 },
        file("implied/f", "", { mode: 0o2711 }),
      );
      await apply(root.path, layer);
    } finally {
      process.umask(umask);
    }
    assert.equal(stat(root.path, "d").mode, 0o41777);
    assert.equal(stat(root.path, "d/suid").mode, 0o104755);
    assert.equal(stat(root.path, "d/suid").uid, 1000);
    assert.equal(stat(root.path, "d/fifo").mode, 0o10666);
    assert.equal(stat(root.path, "implied").mode, 0o40755);
    assert.equal(stat(root.path, "implied/f").mode, 0o102711);
  });

  test("leaves the root as it is, whatever its entry says", async () => {
    for (const name of ["./", "/", "."]) {
      using root = scratch();
      await apply(root.path, layerOf(file("f"), directory(name, { mode: 0o1700, uid: 5, gid: 6 })));
      const { mode, uid, gid } = fs.statSync(root.path);
      assert.deepEqual([mode & 0o7777, uid, gid], [0o755, 0, 0], name);
      assert.deepEqual(fs.readdirSync(root.path), ["f"]);
    }
  });

  test("sets times last, bounded, the later one for access", async () => {
    using root = scratch();
    await apply(
      root.path,
      layerOf(
        directory("d", { mtimeNs: 1_500_000_000_000_000_000n }),
        file("d/f", "x", { mtimeNs: 1_400_000_000_000_000_000n }),
        file("old", "x", { mtimeNs: -5_000_000_000n }),
        symlink("l", "f", { mtimeNs: 1_300_000_000_000_000_000n }),
      ),
    );
    assert.equal(stat(root.path, "d").mtimeMs, 1_500_000_000_000);
    assert.equal(stat(root.path, "d/f").mtimeMs, 1_400_000_000_000);
    assert.equal(stat(root.path, "d/f").atimeMs, 1_400_000_000_000);
    assert.equal(stat(root.path, "old").mtimeMs, 0);
    assert.equal(stat(root.path, "l").mtimeMs, 1_300_000_000_000);
  });

  test("keeps names, targets and attributes that are not UTF-8, and large ids", async () => {
    using root = scratch();
    const value = Buffer.from([0, 1, 0xff, 0x0a, 0x3d]);
    const uid = 3_000_000_000;
    await apply(
      root.path,
      layerOf(
        file("caf\xe9", "x", { uid, gid: uid, xattrs: new Map([["user.b\xff", value]]) }),
        symlink("link", "caf\xe9/\xfe"),
        file(`${"n".repeat(200)}/${"m".repeat(200)}`, "long"),
      ),
    );
    const name = Buffer.from(`${root.path}/caf\xe9`, "latin1");
    assert.equal(fs.lstatSync(name).uid, uid);
    assert.deepEqual(linux.lgetxattr(name, Buffer.from("user.b\xff", "latin1")), value);
    const target = fs.readlinkSync(path.join(root.path, "link"), { encoding: "buffer" });
    assert.equal(target.toString("latin1"), "caf\xe9/\xfe");
    assert.equal(read(root.path, `${"n".repeat(200)}/${"m".repeat(200)}`), "long");
  });

  test("keeps security.capability, skips trusted.* and user.* where it cannot be", async () => {
    using root = scratch();
    const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
    const applied = await apply(
      root.path,
      layerOf(
        file("ping", "x", { xattrs: new Map([["security.capability", capability]]), uid: 7 }),
        file("t", "x", { xattrs: new Map([["trusted.overlay.opaque", Buffer.from("y")]]) }),
        symlink("s", "t", { xattrs: new Map([["user.a", Buffer.from("b")]]) }),
      ),
    );
    assert.deepEqual(
      linux.lgetxattr(path.join(root.path, "ping"), "security.capability"),
      capability,
    );
    assert.equal(linux.lgetxattr(path.join(root.path, "t"), "trusted.overlay.opaque"), undefined);
    assert.equal(applied.warnings.length, 2);
    assert.match(applied.warnings[0] ?? "", /trusted\.overlay\.opaque.* of "t" is reserved/);
  });

  test("makes devices with their numbers, or leaves them out in a user namespace", async () => {
    const entries = [
      { type: "character", name: "c", mode: 0o620, device: { major: 5, minor: 70_000 } },
      { type: "block", name: "b", mode: 0o660, device: { major: 8, minor: 1 } },
    ] as const;
    using root = scratch();
    await apply(root.path, layerOf(...entries));
    const device = linux.fstatat(-100, path.join(root.path, "c"), 0x100);
    assert.deepEqual(device.rdev, { major: 5, minor: 70_000 });
    assert.equal(device.mode, 0o20620);
    using other = scratch();
    const applied = await apply(other.path, layerOf(...entries), { ...merged, devices: "skip" });
    assert.deepEqual(fs.readdirSync(other.path), []);
    assert.equal(applied.warnings.length, 2);
  });

  test("replaces what is there, and merges only directories", async () => {
    using root = scratch();
    await apply(
      root.path,
      layerOf(
        directory("d"),
        file("d/kept", "1"),
        directory("x"),
        file("x/gone"),
        symlink("l", "d"),
      ),
    );
    await apply(
      root.path,
      layerOf(directory("d", { mode: 0o700 }), file("x", "file now"), directory("l"), file("l/f")),
    );
    assert.equal(stat(root.path, "d").mode, 0o40700);
    assert.equal(read(root.path, "d/kept"), "1");
    assert.equal(read(root.path, "x"), "file now");
    assert.ok(stat(root.path, "l").isDirectory());
    assert.deepEqual(fs.readdirSync(path.join(root.path, "d")), ["kept"]);
  });

  test("a hard link is to the name itself, also when that is a symlink", async () => {
    using root = scratch();
    await apply(
      root.path,
      layerOf(file("f", "x"), link("h", "/f"), symlink("s", "f"), link("hs", "s"), link("f", "f")),
    );
    assert.equal(stat(root.path, "h").ino, stat(root.path, "f").ino);
    assert.ok(stat(root.path, "hs").isSymbolicLink());
    assert.equal(read(root.path, "f"), "x");
    await assert.rejects(apply(root.path, layerOf(link("z", "missing"))), /no such file/);
    await assert.rejects(apply(root.path, layerOf(link("z", "no/such/dir"))), /no such file/);
  });

  test("implied directories look like those of the layers below", async () => {
    using lower = scratch();
    using lowest = scratch();
    using upper = scratch();
    const acl = new Map([["user.k", Buffer.from("v")]]);
    await apply(
      lowest.path,
      layerOf(directory("srv", { mode: 0o750, uid: 3 }), directory("opq/d", { mode: 0o700 })),
    );
    await apply(
      lower.path,
      layerOf(
        directory("tmp", { mode: 0o1777, gid: 4, xattrs: acl }),
        file("opq/.wh..wh..opq"),
        file(".wh.gone"),
      ),
      overlay,
    );
    await apply(lowest.path, layerOf(directory("gone", { mode: 0o711 })));
    const applied = await apply(
      upper.path,
      layerOf(file("tmp/x"), file("srv/x"), file("new/x"), file("opq/d/x"), file("gone/x")),
      { ...overlay, parents: [lower.path, lowest.path] },
    );
    const facts = factsOf(upper.path);
    assert.equal(facts["tmp"]?.mode, "41777");
    assert.equal(facts["tmp"]?.owner, "0:4");
    assert.deepEqual(facts["tmp"]?.xattrs, { "user.k": "v" });
    assert.equal(stat(upper.path, "tmp").mtimeMs, 1_000_000_000_000);
    assert.equal(facts["srv"]?.mode, "40750");
    assert.equal(facts["new"]?.mode, "40755");
    assert.equal(facts["opq/d"]?.mode, "40755");
    assert.equal(facts["gone"]?.mode, "40755");
    assert.deepEqual([...applied.implied].sort(), ["gone", "new", "opq/d"]);
  });

  test("says which entry and why when it cannot go on", async () => {
    using root = scratch();
    await assert.rejects(apply(root.path, layerOf(file("f", "x"), file("f/below"))), {
      message: /^unpack "f\/below": mkparent f: not a directory$/,
    });
    const pipe = layerOf({ type: "character", name: "c", device: { major: 1, minor: 3 } });
    // A type of its own: GNU's volume header.
    pipe[156] = "V".charCodeAt(0);
    pipe.write(checksum(pipe), 148, "latin1");
    await assert.rejects(apply(root.path, pipe), /unhandled tar header type 86/);
  });

  test("an archive may not name what no file system takes", async () => {
    using root = scratch();
    await assert.rejects(apply(root.path, layerOf(file("d/".repeat(2100)))), isInvalid);
    await assert.rejects(apply(root.path, layerOf(file("n".repeat(300)))), /file name too long/);
  });
});

function checksum(block: Buffer): string {
  block.fill(0x20, 148, 156);
  const sum = block.subarray(0, 512).reduce((a, b) => a + b, 0);
  return `${sum.toString(8).padStart(6, "0")}\0 `;
}
