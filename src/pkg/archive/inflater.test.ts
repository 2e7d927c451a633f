import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { Inflater } from "#pkg/archive/inflater.ts";
import { forEachPlainChunk, forEachStreamedChunk } from "#pkg/archive/plain-chunks.ts";
import { codeOf } from "#pkg/errors.ts";

const compressors = { gzip: gzipSync, zstd: zstdCompressSync } as const;
type Kind = keyof typeof compressors;
const kinds = Object.keys(compressors) as Kind[]; // -- its own keys

test("what follows a zstd frame and is none is damage", () => {
  using inflater = Inflater.open("zstd");
  const followed = Buffer.concat([zstdCompressSync("text"), Buffer.from("something")]);
  assert.throws(() => inflater?.push(followed, () => {}), /zstd stream is damaged: /);
});

test("this Node lends its codecs", () => {
  for (const kind of kinds) {
    using inflater = Inflater.open(kind);
    assert.ok(inflater);
  }
});

for (const [way, forEach] of [
  ["by the codecs that Node lends", forEachPlainChunk],
  ["by node:zlib", forEachStreamedChunk],
] as const) {
  async function inflate(kind: Kind, stream: Buffer, pieceBytes: number): Promise<Buffer> {
    const plain: Buffer[] = [];
    // In one buffer, as a file is read.
    const buffer = Buffer.alloc(pieceBytes);
    const pieces = async function* (): AsyncGenerator<Buffer> {
      for (let at = 0; at < stream.length; at += pieceBytes) {
        yield buffer.subarray(0, stream.copy(buffer, 0, at, at + pieceBytes));
      }
    };
    await forEach(pieces(), kind, (piece) => plain.push(Buffer.from(piece)));
    return Buffer.concat(plain);
  }

  describe(way, () => {
    test("what was compressed comes out, in however many members and pieces", () =>
      fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...kinds),
          fc.array(fc.record({ word: fc.uint8Array({ minLength: 1 }), times: fc.nat(400) }), {
            minLength: 1,
            maxLength: 4,
          }),
          fc.integer({ min: 20, max: 700 }),
          async (kind, members, pieceBytes) => {
            const plains = members.map(({ word, times }) =>
              Buffer.concat(Array.from({ length: times }, () => word)),
            );
            const stream = Buffer.concat(plains.map((plain) => compressors[kind](plain)));
            const inflated = await inflate(kind, stream, pieceBytes);
            assert.ok(inflated.equals(Buffer.concat(plains)));
          },
        ),
        { numRuns: 60 },
      ));

    test("more comes out than fits into a piece at once", async () => {
      const plain = Buffer.alloc(10 << 20, "x");
      for (const kind of kinds) {
        assert.ok((await inflate(kind, compressors[kind](plain), 1 << 20)).equals(plain));
      }
    });

    test("a stream that is cut off anywhere is refused", async () => {
      const plain = Buffer.from("some text, some text, some more text".repeat(9));
      for (const kind of kinds) {
        const stream = compressors[kind](plain);
        for (let length = 1; length < stream.length; length++) {
          await assert.rejects(
            inflate(kind, stream.subarray(0, length), 7),
            (error) =>
              codeOf(error) === "data-loss" && /truncated: unexpected EOF/.test(String(error)),
            `${kind}: ${length} of ${stream.length} bytes`,
          );
        }
      }
    });

    test("a stream that is damaged is refused, in the words of its library", async () => {
      const wrongSum = gzipSync("some text, some text");
      wrongSum[wrongSum.length - 6] = 0xff ^ (wrongSum.at(-6) ?? 0);
      const words = /gzip stream is damaged: incorrect data check$/;
      await assert.rejects(inflate("gzip", wrongSum, 100), words);
      const frame = zstdCompressSync("some text, some text");
      frame[4] = 0xff;
      await assert.rejects(inflate("zstd", frame, 100), /zstd stream is damaged: \S/);
    });

    test("what follows a member or frame and is none is damage, zeros too", async () => {
      for (const kind of kinds) {
        const stream = compressors[kind]("text");
        for (const pieceBytes of [1, stream.length, 1000]) {
          for (const tail of [Buffer.alloc(1), Buffer.alloc(600), Buffer.from("something")]) {
            const followed = Buffer.concat([stream, tail, compressors[kind]("more")]);
            const words = new RegExp(`^CodedError: ${kind} stream is damaged: `);
            await assert.rejects(inflate(kind, followed, pieceBytes), words);
          }
        }
      }
    });
  });
}
