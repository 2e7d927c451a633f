import type { ContentStore } from "#core/content/content.ts";
import { rewriteLegacy, withConfigType } from "#core/images/legacy-config.ts";
import { childrenOf } from "#core/images/manifest.ts";
import { dispatch, visitOnce } from "#core/images/walk.ts";
import { addDistributionSource, distributionSourceLabel } from "#core/remotes/mount-candidate.ts";
import type { Fetcher } from "#core/remotes/remotes.ts";
import { type FetchHooks, fetchContent } from "#core/transfer/fetch-content.ts";
import type { LocalParts } from "#core/transfer/local.ts";
import { ProgressTracker } from "#core/transfer/progress-tracker.ts";
import { Referrers } from "#core/transfer/referrers.ts";
import { childSelection, storeImages } from "#core/transfer/store-object.ts";
import type { RegistryObject, StoreObject, TransferOptions } from "#core/transfer/transfer.ts";
import { openUnpacker } from "#core/transfer/unpack-requests.ts";
import { verifyImage } from "#core/transfer/verify-image.ts";
import type { FetchBlob } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, isNotFound, notFound, wrap } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { dockerSchema1 } from "#pkg/media-types.ts";
import { parseReference, type Reference } from "#pkg/reference.ts";

/** Brings an image from a registry: content, then snapshots beside it, and names at the end. */
export async function pullImage(
  ctx: Context,
  parts: LocalParts,
  source: RegistryObject,
  store: StoreObject,
  { progress }: TransferOptions,
): Promise<void> {
  const shown = `OCI Registry (${source.reference})`;
  progress?.({ event: `Resolving from ${shown}` });
  const resolver = parts.openResolver(source);
  const { name, descriptor } = await resolver
    .resolve(ctx, source.reference)
    .catch((error: unknown) => {
      throw wrap("failed to resolve image", error);
    });
  assertSupported(descriptor);
  await verifyImage(ctx, parts.verifiers, { name, target: descriptor });
  progress?.({ event: `Pulling from ${shown}` });
  progress?.({ event: "fetching image content", name, descriptor });
  const fetcher = await resolver.fetcher(ctx, name).catch((error: unknown) => {
    throw wrap(`failed to get fetcher for ${JSON.stringify(name)}`, error);
  });
  const tracker = new ProgressTracker(name, "downloading", progress);
  await fetchTree(ctx, parts, { name, fetcher, tracker, store, root: descriptor });
  const target = await rewriteLegacy(ctx, parts.content, descriptor);
  const stored = await storeImages(ctx, parts.images, store, { target, isArchived: false });
  if (stored.length === 0) throw notFound("no image name found");
  for (const image of stored) {
    progress?.({ event: "saved", name: image.name, descriptor: image.target });
  }
  progress?.({ event: `Completed pull from ${shown}` });
}

interface Pull {
  readonly name: string;
  readonly fetcher: Fetcher;
  readonly tracker: ProgressTracker;
  readonly store: StoreObject;
  readonly root: ImageDescriptor;
}

async function fetchTree(ctx: Context, local: LocalParts, pull: Pull): Promise<void> {
  const { content, referrers: artifactTypes } = local;
  const { name, tracker, store, fetcher, root } = pull;
  const select = childSelection(content, store);
  const fetch: FetchBlob = (at, descriptor, onArriving) =>
    fetchOnce(at, local, pull, descriptor, onArriving);
  const referrers =
    artifactTypes && new Referrers({ artifactTypes, content, fetcher, tracker, fetch });
  const visit = visitOnce(async (at, descriptor) => {
    await fetch(at, descriptor);
    const parts = await childrenOf(at, content, descriptor);
    const children = descriptor === root ? withConfigType(descriptor, parts) : parts;
    const selected = await select(at, descriptor, children);
    tracker.addChildren(descriptor, selected);
    await referrers?.note(at, descriptor);
    return selected;
  });
  await using unpacker = openUnpacker(ctx, local, store.unpacks, {
    fetch,
    imageName: name,
    progress: (layer, event) => {
      if (event === "extracting") tracker.extracting(layer);
      else if (event === "extracted") tracker.extracted(layer);
    },
  });
  await dispatch(ctx, unpacker?.wrap(visit) ?? visit, [root]);
  // Beside the unpacking, which they are no part of.
  await referrers?.fetchAll(ctx);
  await unpacker?.wait();
}

/** However many pulls want a piece of content, one fetches it and the others find it there. */
async function fetchOnce(
  ctx: Context,
  { content, locks }: LocalParts,
  { name, fetcher, tracker }: Pull,
  descriptor: ImageDescriptor,
  onArriving: FetchHooks["onArriving"],
): Promise<void> {
  assertSupported(descriptor);
  tracker.add(descriptor);
  using _blob = await locks.acquire(`blob://${descriptor.digest}`, ctx.signal);
  const onBytes = (offset: number): void => tracker.moved(descriptor, offset);
  const hooks = { onBytes, onArriving };
  const outcome = await fetchContent(ctx, content, fetcher, descriptor, hooks);
  if (outcome === "exists") tracker.existed(descriptor);
  else tracker.completed(descriptor);
  await labelSource(ctx, content, descriptor, parseReference(name));
}

/** Where it came from, so that a push to the same registry can mount it from there. */
async function labelSource(
  ctx: Context,
  content: ContentStore,
  { digest }: ImageDescriptor,
  reference: Reference,
): Promise<void> {
  const label = distributionSourceLabel(reference);
  try {
    const known = (await content.info(ctx, digest)).labels[label];
    const value = addDistributionSource(known, reference.repository);
    if (value === known) return;
    await content.update(ctx, { digest, labels: { [label]: value } }, [`labels.${label}`]);
  } catch (error) {
    // A hint is not worth a pull: of the very many repositories that share a blob not all fit in.
    if (isNotFound(error)) throw error;
    ctx.logger.debug("cannot note where content came from", { digest, error });
  }
}

function assertSupported({ mediaType }: { readonly mediaType: string }): void {
  if (mediaType !== dockerSchema1) return;
  throw invalidArgument("schema 1 image manifests are no longer supported");
}
