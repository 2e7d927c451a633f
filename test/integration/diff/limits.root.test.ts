import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import zlib from "node:zlib";
import { applyLayer } from "#pkg/archive/apply-layer.ts";
import { formatPaxRecord } from "#pkg/archive/pax.ts";
import { codeOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import {
  apply,
  directory,
  file,
  type LayerEntry,
  layerOf,
  merged,
  needsRoot,
  overlay,
  scratch,
  symlink,
} from "./layer.ts";

const blockBytes = 512;
const fields = { uid: [108, 8], gid: [116, 8], size: [124, 12], major: [329, 8], minor: [337, 8] };

/** The checksum of the first header put right. */
function sealed(archive: Buffer): Buffer {
  archive.fill(0x20, 148, 156);
  const sum = archive.subarray(0, blockBytes).reduce((a, b) => a + b, 0);
  archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return archive;
}

/** An entry with numbers put in by hand, in base 256 as its bytes are. */
function forged(entry: LayerEntry, numbers: Partial<Record<keyof typeof fields, bigint>>): Buffer {
  const layer = layerOf(entry);
  for (const [name, value] of Object.entries(numbers)) {
    const [offset = 0, length = 0] = fields[name as keyof typeof fields]; // -- keys of the parameter
    for (let i = 0; i < length; i++) {
      layer[offset + i] = Number((value >> BigInt(8 * (length - 1 - i))) & 0xffn);
    }
    layer[offset] = (layer[offset] ?? 0) | 0x80;
  }
  return sealed(layer);
}

/** The same bytes as an extended header. */
function asExtension(layer: Buffer): Buffer {
  layer[156] = "x".charCodeAt(0);
  return sealed(layer);
}

/** An entry behind an extended header. */
function extended(records: Readonly<Record<string, string>>, entry: LayerEntry): Buffer {
  const data = Buffer.concat(Object.entries(records).map(([k, v]) => formatPaxRecord(k, v)));
  const header = asExtension(layerOf(file("x", data)));
  return Buffer.concat([header.subarray(0, -2 * blockBytes), layerOf(entry)]);
}

async function refused(layer: Buffer, message: RegExp, code = "invalid-argument"): Promise<void> {
  for (const form of [merged, overlay]) {
    using root = scratch();
    await assert.rejects(apply(root.path, layer, form), (error: Error) => {
      assert.match(error.message, message);
      assert.equal(codeOf(error), code, error.message);
      return true;
    });
  }
}

describe("numbers and names of a layer", { skip: needsRoot }, () => {
  test("a device number out of range is no device", async () => {
    const device: LayerEntry = { type: "block", name: "b", device: { major: 0, minor: 0 } };
    for (const [number, shown] of [
      [{ major: 1n << 32n }, "4294967296"],
      [{ minor: 1n << 40n }, "1099511627776"],
      [{ major: -1n }, "-1"],
    ] as const) {
      await refused(
        forged(device, number),
        new RegExp(`"b": device number ${shown} is out of range`),
      );
    }
  });

  test("an owner out of range is refused, a negative one is what the kernel makes of it", async () => {
    await refused(forged(file("f"), { uid: 1n << 32n }), /"f": uid 4294967296 is out of range/);
    await refused(forged(file("f"), { gid: -(1n << 31n) - 1n }), /"f": gid -2147483649 is out/);
    using root = scratch();
    await apply(root.path, forged(file("f"), { uid: -2n, gid: -2n }));
    const { uid, gid } = fs.statSync(path.join(root.path, "f"));
    assert.deepEqual([uid, gid], [4_294_967_294, 4_294_967_294]);
  });

  test("a size that is negative or beyond what can be counted is refused", async () => {
    await refused(forged(file("f"), { size: -1n }), /negative entry size -1: invalid archive/);
    await refused(
      forged(file("f"), { size: 1n << 60n }),
      /size 1152921504606846976 is out of range/,
    );
    await refused(extended({ size: "-5" }, file("f")), /negative size of "f"/);
    await refused(extended({ size: "1e3" }, file("f")), /"size" "1e3" is not an integer/);
  });

  test("a file that is nearly all hole takes no space, and one that no disk has is refused", async () => {
    const sparse = (size: string, map = "0,0"): Buffer => {
      return extended({ "GNU.sparse.size": size, "GNU.sparse.map": map }, file("bomb"));
    };
    using root = scratch();
    await apply(root.path, sparse(String(2 ** 40)));
    const { size, blocks } = fs.statSync(path.join(root.path, "bomb"));
    assert.deepEqual([size, blocks], [2 ** 40, 0]);
    await refused(sparse(String(2 ** 52)), /unpack "bomb": .*(?:EFBIG|file too large)/i, "unknown");
    await refused(sparse("9223372036854775807"), /is not an integer in range/);
  });

  test("names and targets are as long as a path may be", async () => {
    await refused(layerOf(file("d/".repeat(2100))), /name of 4200 bytes, at most 4095/);
    await refused(layerOf(symlink("s", "t".repeat(5000))), /name of 5000 bytes, at most 4095/);
    await refused(
      layerOf(file("n".repeat(256))),
      /unpack "n+\.*": .*file name too long/i,
      "unknown",
    );
    using root = scratch();
    const deep = "d/".repeat(2000);
    await apply(root.path, layerOf(directory(deep), file(`${deep}f`, "deep")));
    assert.equal(fs.readFileSync(path.join(root.path, deep, "f"), "utf8"), "deep");
  });

  test("an attribute that no file can have is named", async () => {
    const huge = new Map([["user.huge", Buffer.alloc(70_000, "x")]]);
    await refused(
      layerOf(file("f", "", { xattrs: huge })),
      /unpack "f": .*(?:E2BIG|argument list too long)/i,
      "unknown",
    );
  });
});

describe("a layer without end", { skip: needsRoot }, () => {
  /** The same bytes again and again, counted. */
  async function* endless(
    unit: Buffer,
    given: { bytes: number },
    bytesMax: number,
  ): AsyncGenerator<Buffer, void, undefined> {
    for (; given.bytes < bytesMax; given.bytes += unit.length) yield unit;
  }

  test("of extended headers alone takes no memory, and says what is missing", async () => {
    const unit = extended({ comment: "c".repeat(900_000) }, file("f")).subarray(0, -3 * blockBytes);
    using root = scratch();
    const before = process.memoryUsage.rss();
    const given = { bytes: 0 };
    const layer = endless(unit, given, 300 << 20);
    await assert.rejects(
      applyLayer(linux, root.path, layer, merged, () => {}),
      /ends early/,
    );
    assert.ok(process.memoryUsage.rss() - before < 150 << 20);
    assert.deepEqual(fs.readdirSync(root.path), []);
  });

  test("that says an extended header is long is refused by its length", async () => {
    const head = asExtension(forged(file("x"), { size: 1n << 33n }));
    await refused(head, /extended header of 8589934592 bytes, at most 1048576/);
  });

  test("of zeros behind its end is read to its end and counts", async () => {
    const layer = Buffer.concat([layerOf(file("f", "x")), Buffer.alloc(1 << 20)]);
    using root = scratch();
    const applied = await apply(root.path, zlib.gzipSync(layer));
    assert.equal(applied.sizeBytes, layer.length);
  });

  test("is cancelled between two chunks", async () => {
    using root = scratch();
    const given = { bytes: 0 };
    const unit = layerOf(file("f", Buffer.alloc(1 << 16))).subarray(0, -2 * blockBytes);
    const checkpoint = (): void => {
      if (given.bytes > 4 << 20) throw new Error("enough");
    };
    const layer = endless(unit, given, Number.POSITIVE_INFINITY);
    await assert.rejects(applyLayer(linux, root.path, layer, merged, checkpoint), /enough/);
  });
});
