import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ContentStore } from "#core/content/content.ts";
import { uncompressedLabel } from "#core/images/annotations.ts";
import { withCompression } from "#core/images/layer-media-type.ts";
import { plainBytes } from "#core/images/plain-bytes.ts";
import { commitBlob, withIngest } from "#core/images/write-blob.ts";
import {
  type Compression,
  compressor,
  magicBytes,
  sniffCompression,
} from "#pkg/archive/compression.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestAlgorithm, Digester } from "#pkg/digest.ts";
import { CodedError } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";

/**
 * A layer under another compression: a new blob, unless it has that already. What is no plain layer stays as it is.
 *
 * Throws `data-loss` when the layer does not hold what its image's configuration says.
 */
export async function convertLayer(
  ctx: Context,
  content: ContentStore,
  layer: ImageDescriptor,
  options: { readonly compression: Compression; readonly diffId: Digest | undefined },
): Promise<ImageDescriptor> {
  const { compression, diffId } = options;
  const mediaType = withCompression(layer.mediaType, compression);
  if (mediaType === undefined) return layer;
  await using reader = await content.open(ctx, layer.digest);
  const head = await reader.read(0, Math.min(magicBytes, reader.sizeBytes));
  if (sniffCompression(head) === compression) return { ...layer, mediaType };
  const converted = await withIngest(ctx, content, "convert-layer", async (writer) => {
    const plain = new Digester(diffId === undefined ? "sha256" : digestAlgorithm(diffId));
    async function* hashed(): AsyncGenerator<Buffer, void, undefined> {
      // -- a store's chunks are views of buffers
      for await (const chunk of plainBytes(reader.stream() as AsyncIterable<Buffer>)) {
        ctx.throwIfEnded();
        plain.update(chunk);
        yield chunk;
      }
    }
    const sink = async (bytes: AsyncIterable<Buffer>): Promise<void> => {
      for await (const chunk of bytes) await writer.write(chunk);
    };
    if (compression === "none") await sink(hashed());
    else {
      const source = Readable.from(hashed(), { objectMode: false });
      await pipeline(source, compressor(compression), sink, { signal: ctx.signal });
    }
    const found = plain.digest();
    if (diffId !== undefined && found !== diffId) {
      const holds = `layer ${layer.digest} holds ${found}, its configuration says ${diffId}`;
      throw new CodedError("data-loss", holds);
    }
    const sizeBytes = writer.status().offset;
    const labels = compression === "none" ? {} : { [uncompressedLabel]: found };
    return { digest: await commitBlob(ctx, writer, { sizeBytes, labels }), sizeBytes };
  });
  const { data: _data, urls: _urls, ...rest } = layer;
  return { ...rest, ...converted, mediaType };
}
