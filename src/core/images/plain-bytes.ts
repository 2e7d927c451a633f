import { pipeline, Readable } from "node:stream";
import {
  decompressionError,
  decompressor,
  magicBytes,
  sniffCompression,
} from "#pkg/archive/compression.ts";

/** Inflates bytes of any compression; plain ones pass as they are. */
export async function* plainBytes(
  bytes: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  const source = bytes[Symbol.asyncIterator]();
  try {
    const head: Buffer[] = [];
    for (let length = 0; length < magicBytes; ) {
      const next = await source.next();
      if (next.done === true) break;
      head.push(next.value);
      length += next.value.length;
    }
    const compression = sniffCompression(Buffer.concat(head));
    const all = joined(head, source);
    if (compression === "none") {
      yield* all;
      return;
    }
    const inflate = decompressor(compression);
    const failed = (error: unknown): unknown => decompressionError(compression, error);
    // What ends one end destroys the other; the error arrives where the bytes are read.
    pipeline(Readable.from(all, { objectMode: false }), inflate, () => {});
    try {
      for await (const chunk of inflate) yield chunk as Buffer; // -- no encoding is set on it
    } catch (error) {
      throw failed(error);
    }
  } finally {
    await source.return?.();
  }
}

async function* joined(
  head: readonly Buffer[],
  rest: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  yield* head;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
    yield next.value;
  }
}
