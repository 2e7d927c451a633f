import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ContentStore } from "#core/content/content.ts";
import { uncompressedLabel } from "#core/images/annotations.ts";
import { commitBlob, withIngest } from "#core/images/write-blob.ts";
import { compressor } from "#pkg/archive/compression.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";

/** Stores a blob gzipped, labelled with what it was. */
export async function compressBlob(
  ctx: Context,
  content: ContentStore,
  { digest }: { readonly digest: Digest },
): Promise<{ digest: Digest; sizeBytes: number }> {
  await using reader = await content.open(ctx, digest);
  return await withIngest(ctx, content, "compress-blob", async (writer) => {
    const sink = async (compressed: AsyncIterable<Buffer>): Promise<void> => {
      for await (const chunk of compressed) await writer.write(chunk);
    };
    const source = Readable.from(reader.stream(), { objectMode: false });
    await pipeline(source, compressor("gzip"), sink, { signal: ctx.signal });
    const sizeBytes = writer.status().offset;
    const labels = { [uncompressedLabel]: digest };
    return { digest: await commitBlob(ctx, writer, { sizeBytes, labels }), sizeBytes };
  });
}
