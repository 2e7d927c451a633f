import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatPaxRecord } from "#pkg/archive/pax.ts";
import type { TarEntry } from "#pkg/archive/tar-entry.ts";
import { TarReader } from "#pkg/archive/tar-reader.ts";
import { type NewTarEntry, TarWriter } from "#pkg/archive/tar-writer.ts";
import { codeOf } from "#pkg/errors.ts";

interface Read extends TarEntry {
  readonly content: Buffer;
}

/** Everything in an archive, pushed in pieces of so many bytes; files with their holes filled. */
function readAll(archive: Buffer, piece = archive.length || 1): Read[] {
  const read: Read[] = [];
  let entry: TarEntry | undefined;
  let content = Buffer.alloc(0);
  const reader = new TarReader({
    begin(begun) {
      entry = begun;
      content = Buffer.alloc(begun.sizeBytes);
    },
    data: (chunk, offset) => void chunk.copy(content, offset),
    end() {
      if (entry) read.push({ ...entry, content });
    },
  });
  for (let at = 0; at < archive.length; at += piece) reader.push(archive.subarray(at, at + piece));
  reader.finish();
  return read;
}

function archiveOf(entries: readonly (NewTarEntry & { readonly content?: Buffer })[]): Buffer {
  const chunks: Buffer[] = [];
  const writer = new TarWriter((chunk) => chunks.push(chunk));
  for (const { content, ...entry } of entries) {
    writer.begin({ ...entry, sizeBytes: content?.length ?? 0 });
    if (content && content.length > 0) writer.data(content);
  }
  writer.finish();
  return Buffer.concat(chunks);
}

/** A header block by hand: fields by their offset, the checksum put in. */
function header(typeflag: string, fields: Readonly<Record<number, string | Buffer>>): Buffer {
  const block = Buffer.alloc(512);
  block.write("0000644\0", 100, "latin1");
  block.write(typeflag, 156, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  for (const [at, value] of Object.entries(fields)) {
    const bytes = typeof value === "string" ? Buffer.from(value, "latin1") : value;
    bytes.copy(block, Number(at));
  }
  return sealed(block);
}

function sealed(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  const sum = block.reduce((a, b) => a + b, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

const octal = (value: number, digits = 11): string => value.toString(8).padStart(digits, "0");
const padded = (data: Buffer): Buffer => {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
};
const extended = (...records: readonly Buffer[]): Buffer => {
  const data = Buffer.concat(records);
  return Buffer.concat([header("x", { 0: "x", 124: octal(data.length) }), padded(data)]);
};
const record = (key: string, value: string): Buffer => formatPaxRecord(key, value);
const end = Buffer.alloc(1024);

function refuses(archive: Buffer, message: RegExp): void {
  assert.throws(
    () => readAll(archive),
    (error: Error) => {
      assert.match(error.message, message);
      assert.equal(codeOf(error), "invalid-argument");
      return true;
    },
  );
}

const bytes = fc.string({
  unit: fc.integer({ min: 1, max: 255 }).map((c) => String.fromCharCode(c)),
  minLength: 1,
  maxLength: 300,
});

test("what the writer writes is what the reader reads, in pieces of any size", () => {
  const entry = fc.record({
    type: fc.constantFrom("file", "directory", "symlink", "link", "fifo", "character", "block"),
    name: bytes,
    linkName: bytes,
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.integer({ min: 0, max: 0xffff_ffff }),
    gid: fc.integer({ min: 0, max: 0xffff_ffff }),
    mtimeSeconds: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
    content: fc.uint8Array({ maxLength: 2000 }),
    xattr: fc.uint8Array({ maxLength: 50 }),
  });
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 5 }),
      fc.integer({ min: 1, max: 1500 }),
      (all, piece) => {
        const entries = all.map(({ mtimeSeconds, xattr, content, ...rest }) => ({
          ...rest,
          // A file whose name ends with a slash is a directory to old readers only.
          type: rest.type as TarEntry["type"],
          mtimeNs: BigInt(mtimeSeconds) * 1_000_000_000n,
          device: { major: 1, minor: 2 },
          xattrs: new Map([["user.k\xff", Buffer.from(xattr)]]),
          content: rest.type === "file" ? Buffer.from(content) : Buffer.alloc(0),
        }));
        const read = readAll(archiveOf(entries), piece);
        assert.equal(read.length, entries.length);
        for (const [i, wanted] of entries.entries()) {
          const { sizeBytes, atimeNs, extents, ...got } = read[i] ?? assert.fail();
          assert.deepEqual(
            { sizeBytes, atimeNs, extents },
            {
              sizeBytes: wanted.content.length,
              atimeNs: undefined,
              extents: undefined,
            },
          );
          assert.deepEqual(got, wanted);
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("numbers in base 256, negative ones too", () => {
  const base256 = (value: bigint, length: number): Buffer => {
    const out = Buffer.alloc(length);
    let rest = BigInt.asUintN(length * 8, value);
    for (let i = length - 1; i >= 0; i--) {
      out[i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    out[0] = (out[0] ?? 0) | 0x80;
    return out;
  };
  const block = header("5", {
    0: "d/",
    108: base256(3_000_000_000n, 8),
    116: base256(-2n, 8),
    136: base256(-86_400n, 12),
  });
  const [entry] = readAll(Buffer.concat([block, end]));
  assert.deepEqual(
    [entry?.uid, entry?.gid, entry?.mtimeNs],
    [3_000_000_000, 0xffff_fffe, -86_400_000_000_000n],
  );
  refuses(
    Buffer.concat([header("0", { 0: "f", 124: base256(-1n, 12) }), end]),
    /negative entry size/,
  );
  refuses(
    Buffer.concat([header("0", { 0: "f", 124: base256(1n << 80n, 12) }), end]),
    /out of range/,
  );
});

test("checksums of signed and of unsigned bytes, no others", () => {
  const block = header("0", { 0: "caf\xe9" });
  assert.equal(readAll(Buffer.concat([block, end]))[0]?.name, "caf\xe9");
  const signed = Buffer.from(block);
  signed.fill(0x20, 148, 156);
  const sum = signed.reduce((a, b) => a + (b > 127 ? b - 256 : b), 0);
  signed.write(`${octal(sum, 6)}\0 `, 148, "latin1");
  assert.equal(readAll(Buffer.concat([signed, end])).length, 1);
  signed[0] = 1;
  refuses(Buffer.concat([signed, end]), /header checksum \d+, expected \d+: invalid archive/);
});

test("GNU long names and links, over PAX ones", () => {
  const long = "l".repeat(300);
  const gnu = (type: string, value: string): Buffer => {
    const data = Buffer.from(`${value}\0`, "latin1");
    return Buffer.concat([
      header(type, { 0: "././@LongLink", 124: octal(data.length) }),
      padded(data),
    ]);
  };
  const archive = Buffer.concat([
    extended(record("path", "pax")),
    gnu("L", long),
    gnu("K", `${long}/target`),
    header("2", { 0: "short", 157: "short" }),
    header("0", { 0: "next" }),
    end,
  ]);
  const [first, second] = readAll(archive);
  assert.deepEqual([first?.name, first?.linkName], [long, `${long}/target`]);
  assert.equal(second?.name, "next");
});

test("extended headers count for one entry, global ones for none", () => {
  const global = Buffer.concat([record("path", "global"), record("uid", "77")]);
  const archive = Buffer.concat([
    header("g", { 0: "g", 124: octal(global.length) }),
    padded(global),
    extended(
      record("path", "long"),
      record("mtime", "1.5"),
      record("atime", "-2.25"),
      record("uid", ""),
    ),
    header("0", { 0: "short", 108: octal(5, 7) }),
    header("0", { 0: "plain" }),
    end,
  ]);
  const [first, second] = readAll(archive);
  assert.equal(first?.name, "long");
  assert.equal(first?.uid, 5);
  assert.deepEqual([first?.mtimeNs, first?.atimeNs], [1_500_000_000n, -2_250_000_000n]);
  assert.deepEqual([second?.name, second?.uid], ["plain", 0]);
});

test("old forms: v7 directories, ustar prefixes, GNU's access time", () => {
  const v7 = header("\0", { 0: "dir/", 257: Buffer.alloc(8) });
  const gnu = header("0", { 0: "f", 257: "ustar  \0", 345: octal(9), 124: octal(0) });
  const ustar = header("0", { 0: "name", 345: "a/prefix" });
  const read = readAll(Buffer.concat([v7, gnu, ustar, end]));
  assert.deepEqual(
    read.map((e) => [e.type, e.name]),
    [
      ["directory", "dir/"],
      ["file", "f"],
      ["file", "a/prefix/name"],
    ],
  );
  assert.equal(read[1]?.atimeNs, 9_000_000_000n);
});

test("every form of sparse file", () => {
  const data = Buffer.concat([Buffer.alloc(100, "a"), Buffer.alloc(28, "b")]);
  const expected = Buffer.alloc(5000);
  data.copy(expected, 1000, 0, 100);
  data.copy(expected, 4000, 100);
  const stored = { 0: "stored", 124: octal(data.length) };
  const oldGnu = header("S", {
    ...stored,
    257: "ustar  \0",
    386: octal(1000) + "\0" + octal(100) + "\0",
    482: "\x01",
    483: octal(5000),
  });
  const extension = Buffer.alloc(512);
  extension.write(octal(4000) + "\0" + octal(28) + "\0", 0, "latin1");
  const map = padded(Buffer.from("2\n1000\n100\n4000\n28\n"));
  const forms: readonly (readonly [string, Buffer, string])[] = [
    ["old GNU", Buffer.concat([oldGnu, extension]), "stored"],
    [
      "0.0",
      Buffer.concat([
        extended(
          record("GNU.sparse.size", "5000"),
          record("GNU.sparse.numblocks", "2"),
          ...[1000, 100, 4000, 28].map((n, i) =>
            record(i % 2 === 0 ? "GNU.sparse.offset" : "GNU.sparse.numbytes", String(n)),
          ),
        ),
        header("0", stored),
      ]),
      "stored",
    ],
    [
      "0.1",
      Buffer.concat([
        extended(
          record("GNU.sparse.size", "5000"),
          record("GNU.sparse.name", "real"),
          record("GNU.sparse.map", "1000,100,4000,28"),
        ),
        header("0", stored),
      ]),
      "real",
    ],
    [
      "1.0",
      Buffer.concat([
        extended(
          record("GNU.sparse.major", "1"),
          record("GNU.sparse.minor", "0"),
          record("GNU.sparse.name", "real"),
          record("GNU.sparse.realsize", "5000"),
        ),
        header("0", { 0: "stored", 124: octal(data.length + map.length) }),
        map,
      ]),
      "real",
    ],
  ];
  for (const [form, head, name] of forms) {
    for (const piece of [7, 512, 100_000]) {
      const archive = Buffer.concat([head, padded(data), header("0", { 0: "after" }), end]);
      const [entry, after] = readAll(archive, piece);
      assert.equal(entry?.name, name, form);
      assert.ok(entry?.content.equals(expected), form);
      assert.equal(after?.name, "after", form);
    }
  }
});

test("hostile sparse maps are refused", () => {
  const sparse = (map: string, size: string, stored = 0): Buffer => {
    return Buffer.concat([
      extended(record("GNU.sparse.size", size), record("GNU.sparse.map", map)),
      header("0", { 0: "f", 124: octal(stored) }),
      Buffer.alloc(512),
      end,
    ]);
  };
  refuses(sparse("0,10", "5", 10), /sparse extent 0\+10 of a file of 5 bytes/);
  refuses(sparse("5,5,0,5", "50", 10), /sparse extent 0\+5/);
  refuses(sparse("0,5", "50", 10), /names 5 bytes, 10 are stored/);
  refuses(sparse("0", "50"), /middle of a pair/);
  refuses(sparse("a,b", "50"), /not a number/);
  refuses(sparse("0,9007199254740993", "50"), /not a number in range/);
  refuses(sparse("0,0", "-1"), /without its real size/);
  const named = extended(record("GNU.sparse.name", "a\0b"), record("GNU.sparse.size", "5"));
  refuses(Buffer.concat([named, header("0", { 0: "f" }), end]), /GNU.sparse.name.* holds a NUL/);
  const endless = Buffer.concat([
    extended(
      record("GNU.sparse.major", "1"),
      record("GNU.sparse.minor", "0"),
      record("GNU.sparse.realsize", "1"),
    ),
    header("0", { 0: "f", 124: octal(8 << 20) }),
    Buffer.from("99999999\n".repeat(200_000)),
  ]);
  refuses(endless, /sparse map is longer than 1048576 bytes/);
  refuses(
    Buffer.concat([extended(record("GNU.sparse.major", "2")), header("0", { 0: "f" }), end]),
    /sparse format 2\.0 is unknown/,
  );
});

test("malformed and oversized headers are refused", () => {
  const bad = (data: string): Buffer => {
    const buffer = Buffer.from(data, "latin1");
    const head = header("x", { 0: "x", 124: octal(buffer.length) });
    return Buffer.concat([head, padded(buffer), header("0", { 0: "f" }), end]);
  };
  refuses(bad("8 path=x\n"), /malformed/);
  refuses(bad("99 path=x\n"), /malformed/);
  refuses(bad("path=x\n"), /malformed/);
  refuses(bad("7 =abc\n"), /no key/);
  refuses(bad("10 path=\0\n"), /holds a NUL/);
  refuses(bad("9 size=x\n"), /not an integer in range/);
  refuses(bad("12 mtime=1s\n"), /is no time/);
  refuses(
    Buffer.concat([header("x", { 0: "x", 124: octal(2 << 20) }), end]),
    /extended header of 2097152 bytes/,
  );
  refuses(
    Buffer.concat([header("0", { 0: "f", 124: "12345678x" }), end]),
    /size "12345678x.*" is not a number/,
  );
  refuses(Buffer.concat([header("V", { 0: "label" }), end]), /unhandled tar header type 86/);
  refuses(
    Buffer.concat([
      header("0", { 0: "f", 108: octal(0, 7) }),
      Buffer.alloc(512),
      header("0", {}),
      end,
    ]),
    /lone block of zeros/,
  );
  refuses(
    Buffer.concat([extended(record("uid", "4294967296")), header("0", {}), end]),
    /uid 4294967296 is out of range/,
  );
  refuses(extended(record("path", "x")), /ends early: unexpected EOF/);
});

test("an archive may end without its blocks of zeros, but not inside a member", () => {
  const archive = archiveOf([{ type: "file", name: "f", content: Buffer.from("hello") }]);
  assert.equal(readAll(archive.subarray(0, 1024)).length, 1);
  assert.equal(readAll(archive.subarray(0, 1536)).length, 1);
  for (const length of [1, 511, 513, 600, 1023]) {
    refuses(archive.subarray(0, length), /ends early.*unexpected EOF/);
  }
  assert.equal(readAll(Buffer.concat([archive, Buffer.from("junk after the end")])).length, 1);
});

test("random bytes never do worse than a coded error", () => {
  const seed = archiveOf([
    { type: "file", name: "n".repeat(150), content: Buffer.alloc(700, "x") },
    { type: "directory", name: "d/" },
  ]);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      (changes, reseal) => {
        const damaged = Buffer.from(seed);
        for (const [at, value] of changes) damaged[at] = value;
        if (reseal) sealed(damaged.subarray(0, 512));
        try {
          readAll(damaged, 333);
        } catch (error) {
          assert.equal(codeOf(error), "invalid-argument", String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});
