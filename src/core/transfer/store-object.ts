import type { ContentStore } from "#core/content/content.ts";
import { archiveName } from "#core/images/archive-name.ts";
import { labelChildren } from "#core/images/gc-labels.ts";
import type { Image, ImageStore } from "#core/images/images.ts";
import { byPlatform, ofPlatforms } from "#core/images/manifest.ts";
import type { StoreObject } from "#core/transfer/transfer.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { isAlreadyExists, isNotFound, notFound, unavailable } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import type { Labels } from "#pkg/label.ts";
import { isConfig, isIndex, isManifest } from "#pkg/media-types.ts";
import { anyPlatform, orderedPlatforms } from "#pkg/platform-match.ts";
import { formatRfc3339, nowNanos } from "#pkg/time.ts";

const storeTriesMax = 10;

/** Which children of a piece of content are taken along; all of them are tied to it, so that none is collected. */
export function childSelection(
  content: ContentStore,
  { platforms, allMetadata, manifestLimit }: StoreObject,
): (
  ctx: Context,
  parent: ImageDescriptor,
  children: readonly ImageDescriptor[],
) => Promise<readonly ImageDescriptor[]> {
  const matcher = platforms.length === 0 ? anyPlatform : orderedPlatforms(platforms);
  return async (ctx, parent, children) => {
    await labelChildren(ctx, content, parent, children);
    let selected = children;
    if (!allMetadata) {
      selected = ofPlatforms(children, matcher);
    } else if (isManifest(parent.mediaType) && parent.platform) {
      const isWanted = matcher.matches(parent.platform);
      if (!isWanted) selected = children.filter(({ mediaType }) => isConfig(mediaType));
    }
    if (manifestLimit === 0 || !isIndex(parent.mediaType)) return selected;
    if (selected.length === 0) throw notFound("no match for platform in manifest");
    return byPlatform(selected, matcher).slice(0, manifestLimit);
  };
}

/**
 * Gives content its names, moving those that are in use. Answers none where nothing names it.
 *
 * An entry of an archive is named by its annotations, as far as the prefixes among the references let it; anything
 * else by the object's own name and references.
 */
export async function storeImages(
  ctx: Context,
  images: ImageStore,
  object: StoreObject,
  { target, isArchived }: { readonly target: ImageDescriptor; readonly isArchived: boolean },
): Promise<readonly Image[]> {
  const { mediaType, digest, sizeBytes, annotations } = target;
  const descriptor: Descriptor = { mediaType, digest, sizeBytes, annotations };
  const names = isArchived ? archivedNames(object, descriptor) : ownNames(object, descriptor);
  const stored: Image[] = [];
  for (const { name, labels } of names) {
    stored.push(await createOrUpdate(ctx, images, { name, labels, target: descriptor }));
  }
  return stored;
}

interface NamedLabels {
  readonly name: string;
  readonly labels: Labels;
}

function ownNames(object: StoreObject, { digest }: Descriptor): NamedLabels[] {
  const names: NamedLabels[] = [];
  if (object.name !== "") names.push({ name: object.name, labels: object.labels });
  for (const { name, isPrefix, addDigest } of object.references) {
    if (isPrefix && !addDigest) continue;
    names.push({ name: addDigest ? `${name}@${digest}` : name, labels: furtherLabels(object) });
  }
  return names;
}

function archivedNames(object: StoreObject, target: Descriptor): NamedLabels[] {
  const labels = furtherLabels(object);
  return object.references
    .filter(({ isPrefix }) => isPrefix)
    .flatMap((reference) => {
      const { allowOverwrite: allowOther, addDigest, skipNamedDigest } = reference;
      const name = archiveName(target.annotations, reference.name, { allowOther });
      const byDigest = { name: `${reference.name}@${target.digest}`, labels };
      if (name === undefined) return addDigest ? [byDigest] : [];
      return addDigest && !skipNamedDigest ? [{ name, labels }, byDigest] : [{ name, labels }];
    });
}

/** Further names live as long as the first one. */
function furtherLabels({ name, labels }: StoreObject): Labels {
  if (name === "") return labels;
  return {
    ...labels,
    "containerd.io/gc.bref.image": name,
    "containerd.io/gc.expire": formatRfc3339((nowNanos() / 1_000_000_000n) * 1_000_000_000n),
  };
}

async function createOrUpdate(
  ctx: Context,
  images: ImageStore,
  image: Pick<Image, "name" | "labels" | "target">,
): Promise<Image> {
  // It may be made and removed by others between the two.
  for (let tries = 0; tries < storeTriesMax; tries++) {
    try {
      return await images.create(ctx, image);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
    try {
      return await images.update(ctx, image);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  throw unavailable(`image ${JSON.stringify(image.name)} is made and removed all the time`);
}

/** The images that are exported or pushed: the object's own name, then its references. Throws `not-found`. */
export async function lookUpImages(
  ctx: Context,
  images: ImageStore,
  { name, references }: StoreObject,
): Promise<readonly Image[]> {
  const names = [...(name === "" ? [] : [name]), ...references.map((reference) => reference.name)];
  const found: Image[] = [];
  for (const one of names) found.push(await images.get(ctx, one));
  return found;
}
