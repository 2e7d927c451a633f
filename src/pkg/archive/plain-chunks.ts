import type { Transform } from "node:stream";
import {
  assertUsedUp,
  type Compression,
  decompressionError,
  decompressor,
  freeOutput,
} from "#pkg/archive/compression.ts";
import { Inflater } from "#pkg/archive/inflater.ts";

/**
 * Calls `use` with the plain bytes of a compressed stream, in chunks that are good until it returns. A chunk of the
 * stream is used up before the next one is asked for, which may come in the same buffer.
 *
 * Throws `data-loss` for what is damaged or cut off, and what `use` and the stream throw.
 */
export async function forEachPlainChunk(
  stream: AsyncIterable<Buffer>,
  compression: Exclude<Compression, "none">,
  use: (chunk: Buffer) => void,
): Promise<void> {
  using inflater = Inflater.open(compression);
  if (!inflater) return forEachStreamedChunk(stream, compression, use);
  for await (const chunk of stream) inflater.push(chunk, use);
  inflater.finish();
}

/** The same by node:zlib, for a Node that keeps its codecs to itself. */
export async function forEachStreamedChunk(
  stream: AsyncIterable<Buffer>,
  compression: Exclude<Compression, "none">,
  use: (chunk: Buffer) => void,
): Promise<void> {
  const inflate = decompressor(compression);
  const feeding = feed(stream, inflate);
  try {
    for await (const plain of inflate as AsyncIterable<Buffer>) {
      use(plain);
      freeOutput(plain);
    }
    assertUsedUp(compression, inflate, await feeding);
  } catch (error) {
    inflate.destroy();
    await feeding.catch(() => undefined);
    throw decompressionError(compression, error);
  }
}

/** Returns how many bytes it fed. */
async function feed(chunks: AsyncIterable<Buffer>, inflate: Transform): Promise<number> {
  let givenBytes = 0;
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  inflate.once("close", close);
  try {
    for await (const chunk of chunks) {
      const { promise: taken, resolve: take } = Promise.withResolvers<void>();
      givenBytes += chunk.length;
      inflate.write(chunk, () => take());
      await Promise.race([taken, closed]);
      if (inflate.destroyed) break;
    }
    if (!inflate.destroyed) inflate.end();
  } catch (error) {
    // -- a source fails with an error, which the reading end is to throw
    inflate.destroy(error as Error);
  }
  return givenBytes;
}
