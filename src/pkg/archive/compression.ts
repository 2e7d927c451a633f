import type { Transform } from "node:stream";
import zlib from "node:zlib";
import { CodedError, isErrno, messageOf } from "#pkg/errors.ts";

export type Compression = "gzip" | "zstd" | "none";

/** So many first bytes decide. */
export const magicBytes = 4;

/** By magic: zstd also by a skippable frame in front, whose magic is a range. */
export function sniffCompression(head: Uint8Array): Compression {
  if (head.length >= 3 && head[0] === 0x1f && head[1] === 0x8b && head[2] === 0x08) return "gzip";
  if (head.length < 4) return "none";
  const [a = 0, b = 0, c = 0, d = 0] = head;
  if (a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd) return "zstd";
  if ((a & 0xf0) === 0x50 && b === 0x2a && c === 0x4d && d === 0x18) return "zstd";
  return "none";
}

const outputChunkBytes = 256 << 10;

/** Counts what it took: it ends where zeros follow a gzip member, or anything a zstd frame. */
export type Decompressor = Transform & { readonly bytesWritten: number };

/**
 * Inflates a stream, several gzip members or zstd frames in a row included. One that is cut off or damaged ends in an
 * error; whether one is followed by something else `assertUsedUp` says at the end.
 */
export function decompressor(compression: Exclude<Compression, "none">): Decompressor {
  return compression === "gzip"
    ? zlib.createGunzip({ chunkSize: outputChunkBytes })
    : zlib.createZstdDecompress({ chunkSize: outputChunkBytes });
}

/** Throws `data-loss` where a decompressor that has ended did not take all it was given. */
export function assertUsedUp(
  compression: Compression,
  inflate: Decompressor,
  givenBytes: number,
): void {
  const { bytesWritten } = inflate;
  if (bytesWritten >= givenBytes) return;
  const what = `${compression} stream is damaged: what follows byte ${bytesWritten} is none`;
  throw new CodedError("data-loss", what);
}

/**
 * Gives the memory of a decompressor's used-up output back at once. Without it, garbage collections decide how much of
 * a layer's plain bytes is held at a time.
 */
export function freeOutput(chunk: Buffer): void {
  const { buffer, byteOffset, byteLength } = chunk;
  // A decompressor fills one buffer in several pieces: what is not at its end may be followed by more.
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== outputChunkBytes) return;
  if (byteOffset + byteLength === outputChunkBytes) buffer.transfer(0);
}

export function compressor(compression: Exclude<Compression, "none">): Transform {
  return compression === "gzip"
    ? zlib.createGzip({ chunkSize: outputChunkBytes })
    : zlib.createZstdCompress({ chunkSize: outputChunkBytes });
}

/** What zlib says of a broken stream, as an error with a class; anything else is passed on. */
export function decompressionError(compression: Compression, error: unknown): unknown {
  const isCut = isErrno(error, "Z_BUF_ERROR", "ZSTD_error_srcSize_wrong");
  if (isCut) {
    return new CodedError("data-loss", `${compression} stream is truncated: unexpected EOF`, {
      cause: error,
    });
  }
  if (!isBroken(error)) return error;
  return new CodedError("data-loss", `${compression} stream is damaged: ${messageOf(error)}`, {
    cause: error,
  });
}

function isBroken(error: unknown): boolean {
  if (!(error instanceof Error) || !("code" in error)) return false;
  return /^(Z_|ZSTD_|ERR_ZSTD)/.test(String(error.code));
}
