import assert from "node:assert";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { plainBytes } from "#core/images/plain-bytes.ts";
import { sniffCompression } from "#pkg/archive/compression.ts";
import { codeOf } from "#pkg/errors.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const compressors = {
  none: (bytes: Uint8Array) => Buffer.from(bytes),
  gzip: (bytes: Uint8Array) => gzipSync(bytes),
  "two gzip members": (bytes: Uint8Array) => {
    const half = bytes.length >> 1;
    return Buffer.concat([gzipSync(bytes.subarray(0, half)), gzipSync(bytes.subarray(half))]);
  },
  zstd: (bytes: Uint8Array) => zstdCompressSync(bytes),
} as const;

async function* pieces(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

/** The plain bytes, or undefined where the stream was refused as damaged. */
async function inflated(bytes: Buffer, pieceLength: number): Promise<Buffer | undefined> {
  try {
    return Buffer.concat(await Array.fromAsync(plainBytes(pieces(bytes, pieceLength))));
  } catch (error) {
    assert.strictEqual(codeOf(error), "data-loss", String(error));
    return undefined;
  }
}

/** What was compressed comes out whatever its pieces; what is cut off or damaged is refused, never taken for less. */
export const target = fuzzTarget({
  name: "DecompressStream",
  smokeRuns: 150,
  inputs: fc.record({
    word: fc.uint8Array({ minLength: 1, maxLength: 300 }),
    times: fc.integer({ min: 0, max: 300 }),
    compression: fc.constantFrom(...(Object.keys(compressors) as (keyof typeof compressors)[])), // -- its own keys
    pieceLength: fc.integer({ min: 1, max: 5000 }),
    cut: fc.nat(),
    flip: fc.nat(),
  }),
  async check({ word, times, compression, pieceLength, cut, flip }) {
    const plain = Buffer.concat(Array.from({ length: times }, () => word));
    // Plain bytes that look compressed are taken for that.
    const kind = sniffCompression(plain);
    if (compression === "none" && kind !== "none") return;
    const whole = compressors[compression](plain);
    const out = await inflated(whole, pieceLength);
    assert.ok(out?.equals(plain), "what was compressed comes out");

    const short = whole.subarray(0, cut % (whole.length + 1));
    const ofShort = await inflated(short, pieceLength);
    if (sniffCompression(short) === "none") assert.ok(ofShort?.equals(short));
    else if (compression !== "two gzip members" && short.length < whole.length) {
      assert.strictEqual(ofShort, undefined, `${short.length} of ${whole.length} bytes were taken`);
    }

    if (whole.length === 0) return;
    const damaged = Buffer.from(whole);
    const at = flip % damaged.length;
    damaged[at] = (damaged[at] ?? 0) ^ 0x10;
    const ofDamaged = await inflated(damaged, pieceLength);
    // A flipped name or time in a header is no damage; plain and zstd bytes of this kind carry no checksum.
    if (sniffCompression(damaged) !== "gzip" || ofDamaged === undefined) return;
    assert.ok(ofDamaged.equals(plain), "damaged bytes were taken for others");
  },
});
