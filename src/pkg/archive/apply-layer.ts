import { createHash } from "node:crypto";
import type { Transform } from "node:stream";
import {
  decompressionError,
  decompressor,
  freeOutput,
  magicBytes,
  sniffCompression,
} from "#pkg/archive/compression.ts";
import { type ExtractOptions, LayerExtractor } from "#pkg/archive/layer-extractor.ts";
import { TarReader } from "#pkg/archive/tar-reader.ts";
import type { AppliedLayer } from "#pkg/archive/tree-job.ts";
import { type Digest, parseDigest } from "#pkg/digest.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

/**
 * Unpacks a layer into `root` in one pass: inflates, digests the plain bytes, writes the files. For
 * worker threads: the calling thread is blocked by every system call. A chunk of the layer is used
 * before the next one is asked for.
 *
 * `checkpoint` is called before each chunk; what it throws ends the work.
 */
export async function applyLayer(
  sys: Syscalls,
  root: string,
  layer: AsyncIterable<Buffer>,
  options: ExtractOptions,
  checkpoint: () => void,
): Promise<AppliedLayer> {
  using extractor = new LayerExtractor(sys, root, options);
  const reader = new TarReader(extractor);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  await forEachPlainChunk(layer, (chunk) => {
    checkpoint();
    hash.update(chunk);
    sizeBytes += chunk.length;
    reader.push(chunk);
  });
  // An input ended by a cancel may look complete.
  checkpoint();
  reader.finish();
  const diffId: Digest = parseDigest(`sha256:${hash.digest("hex")}`);
  return { ...extractor.finish(), diffId, sizeBytes };
}

async function forEachPlainChunk(
  layer: AsyncIterable<Buffer>,
  use: (chunk: Buffer) => void,
): Promise<void> {
  await using chunks = new HeadedStream(layer);
  const compression = sniffCompression(await chunks.head(magicBytes));
  if (compression === "none") {
    for await (const chunk of chunks) use(chunk);
    return;
  }
  const inflate = decompressor(compression);
  const feeding = feed(chunks, inflate);
  try {
    for await (const plain of inflate as AsyncIterable<Buffer>) {
      use(plain);
      freeOutput(plain);
    }
    await feeding;
  } catch (error) {
    inflate.destroy();
    await feeding.catch(() => undefined);
    throw decompressionError(compression, error);
  }
}

/** Each chunk is inflated before the next one is asked for, which may come in the same buffer. */
async function feed(chunks: AsyncIterable<Buffer>, inflate: Transform): Promise<void> {
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  inflate.once("close", close);
  try {
    for await (const chunk of chunks) {
      const { promise: taken, resolve: take } = Promise.withResolvers<void>();
      inflate.write(chunk, () => take());
      await Promise.race([taken, closed]);
      if (inflate.destroyed) return;
    }
    inflate.end();
  } catch (error) {
    // -- a source fails with an error, which the reading end is to throw
    inflate.destroy(error as Error);
  }
}

/** A stream whose first bytes can be looked at. */
class HeadedStream implements AsyncIterable<Buffer>, AsyncDisposable {
  readonly #source: AsyncIterator<Buffer>;
  #head: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** At least so many bytes, unless there are fewer. */
  async head(bytes: number): Promise<Buffer> {
    while (this.#head.length < bytes) {
      const next = await this.#source.next();
      if (next.done === true) break;
      this.#head = Buffer.concat([this.#head, next.value]);
    }
    return this.#head;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    if (this.#head.length > 0) yield this.#head;
    for (;;) {
      const next = await this.#source.next();
      if (next.done === true) return;
      yield next.value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source.return?.();
  }
}
