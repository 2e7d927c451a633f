import type { ContentStore } from "#core/content/content.ts";
import { TarWriter } from "#pkg/archive/tar-writer.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestAlgorithm, Digester } from "#pkg/digest.ts";
import { CodedError, failedPrecondition } from "#pkg/errors.ts";

export type ArchiveRecord =
  | { readonly kind: "directory"; readonly name: string }
  | {
      readonly kind: "document";
      readonly name: string;
      readonly mode: number;
      readonly bytes: Buffer;
    }
  | {
      readonly kind: "blob";
      readonly name: string;
      readonly digest: Digest;
      readonly sizeBytes: number;
    };

/** Writes records by name, as a tar archive without times and owners. Blobs are read once, and checked on the way. */
export async function writeArchive(
  ctx: Context,
  content: ContentStore,
  records: readonly ArchiveRecord[],
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const pending: Buffer[] = [];
  const tar = new TarWriter((chunk) => pending.push(chunk));
  const flush = async (): Promise<void> => {
    for (const chunk of pending.splice(0)) await write(chunk);
  };
  const sorted = records.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  for (const record of sorted) {
    ctx.throwIfEnded();
    const { name } = record;
    if (record.kind === "directory") {
      tar.begin({ type: "directory", name, mode: 0o755 });
    } else if (record.kind === "document") {
      tar.begin({ type: "file", name, mode: record.mode, sizeBytes: record.bytes.length });
      tar.data(record.bytes);
    } else {
      tar.begin({ type: "file", name, mode: 0o444, sizeBytes: record.sizeBytes });
      await copyBlob(ctx, content, record, async (chunk) => {
        tar.data(chunk);
        await flush();
      });
    }
    await flush();
  }
  tar.finish();
  await flush();
}

async function copyBlob(
  ctx: Context,
  content: ContentStore,
  { digest, sizeBytes }: { readonly digest: Digest; readonly sizeBytes: number },
  write: (chunk: Buffer) => Promise<void>,
): Promise<void> {
  await using reader = await content.open(ctx, digest);
  if (reader.sizeBytes !== sizeBytes) {
    const sizes = `${reader.sizeBytes} bytes, its descriptor says ${sizeBytes}`;
    throw failedPrecondition(`content ${digest} has ${sizes}`);
  }
  const digester = new Digester(digestAlgorithm(digest));
  for await (const chunk of reader.stream()) {
    ctx.throwIfEnded();
    digester.update(chunk);
    await write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length));
  }
  if (digester.digest() !== digest) {
    throw new CodedError("data-loss", `unexpected digest ${digester.digest()} copied`);
  }
}
