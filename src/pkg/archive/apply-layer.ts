import { createHash } from "node:crypto";
import { magicBytes, sniffCompression } from "#pkg/archive/compression.ts";
import { type ExtractOptions, LayerExtractor } from "#pkg/archive/layer-extractor.ts";
import { forEachPlainChunk } from "#pkg/archive/plain-chunks.ts";
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
  const use = (chunk: Buffer): void => {
    checkpoint();
    hash.update(chunk);
    sizeBytes += chunk.length;
    reader.push(chunk);
  };
  await using chunks = new HeadedStream(layer);
  const compression = sniffCompression(await chunks.head(magicBytes));
  if (compression === "none") for await (const chunk of chunks) use(chunk);
  else await forEachPlainChunk(chunks, compression, use);
  // An input ended by a cancel may look complete.
  checkpoint();
  reader.finish();
  const diffId: Digest = parseDigest(`sha256:${hash.digest("hex")}`);
  return { ...extractor.finish(), diffId, sizeBytes };
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
