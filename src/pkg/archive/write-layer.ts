import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Compression, compressor } from "#pkg/archive/compression.ts";
import type { ComparedTrees } from "#pkg/archive/tree-job.ts";
import { parseDigest } from "#pkg/digest.ts";

/**
 * Pulls a layer's bytes, compresses them and hands them on, and digests the plain ones on the way.
 */
export async function writeLayer(
  layer: Iterable<Buffer>,
  compression: Compression,
  output: (chunk: Buffer) => Promise<void>,
  checkpoint: () => void,
): Promise<ComparedTrees> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const plain = function* (): Generator<Buffer, void, undefined> {
    for (const chunk of gather(layer)) {
      checkpoint();
      hash.update(chunk);
      sizeBytes += chunk.length;
      yield chunk;
    }
  };
  if (compression === "none") {
    for (const chunk of plain()) await output(chunk);
  } else {
    const sink = async (compressed: AsyncIterable<Buffer>): Promise<void> => {
      for await (const chunk of compressed) await output(chunk);
    };
    const source = Readable.from(plain(), { objectMode: false });
    await pipeline(source, compressor(compression), sink);
  }
  return { diffId: parseDigest(`sha256:${hash.digest("hex")}`), sizeBytes };
}

const gatheredBytes = 256 << 10;

/** Headers and small files go on together. */
function* gather(chunks: Iterable<Buffer>): Generator<Buffer, void, undefined> {
  let gathered: Buffer[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    gathered.push(chunk);
    bytes += chunk.length;
    if (bytes < gatheredBytes) continue;
    yield Buffer.concat(gathered, bytes);
    gathered = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(gathered, bytes);
}
