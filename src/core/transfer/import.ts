import { importArchive } from "#core/images/import-archive.ts";
import { childrenOf, readIndex } from "#core/images/manifest.ts";
import { plainBytes } from "#core/images/plain-bytes.ts";
import { visitOnce, walk } from "#core/images/walk.ts";
import type { LocalParts } from "#core/transfer/local.ts";
import { childSelection, storeImages } from "#core/transfer/store-object.ts";
import type { ImportObject, StoreObject, TransferOptions } from "#core/transfer/transfer.ts";
import { openUnpacker } from "#core/transfer/unpack-requests.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";

/** Takes in an archive: content first, then snapshots, then names. */
export async function importImages(
  ctx: Context,
  parts: LocalParts,
  source: ImportObject,
  store: StoreObject,
  { progress }: TransferOptions,
): Promise<void> {
  const { content, images } = parts;
  progress?.({ event: "Importing" });
  const { mediaType, forceCompress } = source;
  const raw = source.read(ctx);
  const bytes = mediaType === "" ? plainBytes(raw) : raw;
  const index = await importArchive(ctx, content, bytes, { forceCompress });
  const entries = await tieTogether(ctx, parts, store, index);
  // The index as a whole goes by the object's own name, its entries by what the archive calls them.
  const named = [{ target: index, isArchived: false }].concat(
    entries.map((target) => ({ target, isArchived: true })),
  );
  for (const one of named) {
    const stored = await storeImages(ctx, images, store, one);
    if (stored.length === 0)
      ctx.logger.info("content without a name", { digest: one.target.digest });
    for (const { name, target } of stored) progress?.({ event: "saved", name, descriptor: target });
  }
  progress?.({ event: "Completed import" });
}

/** Labels and unpacks what the index names; answers its entries, whether they were wanted or not. */
async function tieTogether(
  ctx: Context,
  parts: LocalParts,
  store: StoreObject,
  index: ImageDescriptor,
): Promise<readonly ImageDescriptor[]> {
  const { content } = parts;
  const { manifests } = await readIndex(ctx, content, index);
  const select = childSelection(content, store);
  let isEmpty = true;
  const visit = visitOnce(async (at, descriptor) => {
    const isIndexItself = descriptor.digest === index.digest;
    const children = isIndexItself ? manifests : await childrenOf(at, content, descriptor);
    const selected = await select(at, descriptor, children);
    isEmpty &&= selected.length === 0;
    return selected;
  });
  // Everything is here already: what the archive left out fails where it is unpacked.
  await using unpacker = openUnpacker(ctx, parts, store.unpacks, { fetch: async () => {} });
  await walk(ctx, unpacker?.wrap(visit) ?? visit, [index]);
  await unpacker?.wait();
  if (isEmpty) throw new CodedError("unknown", "image might be filtered out");
  return manifests;
}
