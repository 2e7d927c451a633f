import { type ContentStore, readBlob } from "#core/content/content.ts";
import { assertReferences, walk } from "#core/images/walk.ts";
import type { Context } from "#pkg/context.ts";
import { notFound, wrap } from "#pkg/errors.ts";
import {
  type ImageConfig,
  type ImageDescriptor,
  type Index,
  type Manifest,
  parseImageConfig,
  parseIndex,
  parseManifest,
} from "#pkg/image-spec.ts";
import { isConfig, isIndex, isManifest } from "#pkg/media-types.ts";
import { normalizePlatform, type Platform } from "#pkg/platform.ts";
import type { PlatformMatcher } from "#pkg/platform-match.ts";

/** Of a manifest, an index or a configuration that is parsed as a whole. */
export const documentBytesMax: number = 20 << 20;

/** The bytes of a manifest, an index or a configuration, from the descriptor itself where it brings them. */
export async function readDocument(
  ctx: Context,
  content: ContentStore,
  descriptor: ImageDescriptor,
): Promise<Uint8Array> {
  return descriptor.data ?? (await readBlob(ctx, content, descriptor, documentBytesMax));
}

export async function readManifest(
  ctx: Context,
  content: ContentStore,
  descriptor: ImageDescriptor,
): Promise<Manifest> {
  const bytes = await readDocument(ctx, content, descriptor);
  const manifest = named(descriptor, () => parseManifest(bytes, descriptor.mediaType));
  assertReferences(1 + manifest.layers.length);
  return manifest;
}

export async function readIndex(
  ctx: Context,
  content: ContentStore,
  descriptor: ImageDescriptor,
): Promise<Index> {
  const bytes = await readDocument(ctx, content, descriptor);
  const index = named(descriptor, () => parseIndex(bytes, descriptor.mediaType));
  // Before anything is done for each of them: nobody would get past them anyway.
  assertReferences(index.manifests.length);
  return index;
}

export async function readConfig(
  ctx: Context,
  content: ContentStore,
  descriptor: ImageDescriptor,
): Promise<ImageConfig> {
  const bytes = await readDocument(ctx, content, descriptor);
  return named(descriptor, () => parseImageConfig(bytes));
}

function named<T>(descriptor: ImageDescriptor, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw wrap(`invalid desc ${descriptor.digest}`, error);
  }
}

/**
 * What a manifest or an index names, config first; nothing for everything else.
 *
 * Throws `not-found` when it is not there, `invalid-argument` when it is not what its media type says.
 */
export async function childrenOf(
  ctx: Context,
  content: ContentStore,
  descriptor: ImageDescriptor,
): Promise<readonly ImageDescriptor[]> {
  if (isManifest(descriptor.mediaType)) {
    const { config, layers } = await readManifest(ctx, content, descriptor);
    return [config, ...layers];
  }
  if (isIndex(descriptor.mediaType)) {
    return (await readIndex(ctx, content, descriptor)).manifests;
  }
  return [];
}

/** What a manifest or an index says it refers to. Throws as `childrenOf`. */
export async function subjectOf(
  ctx: Context,
  content: ContentStore,
  descriptor: ImageDescriptor,
): Promise<ImageDescriptor | undefined> {
  const read = isManifest(descriptor.mediaType) ? readManifest : readIndex;
  return (await read(ctx, content, descriptor)).subject;
}

/** Those without a platform, and those whose platform will do. */
export function ofPlatforms(
  descriptors: readonly ImageDescriptor[],
  { matches }: PlatformMatcher,
): readonly ImageDescriptor[] {
  return descriptors.filter(({ platform }) => platform === undefined || matches(platform));
}

/** The best platform first; equal ones in their order, those without a platform last. */
export function byPlatform(
  descriptors: readonly ImageDescriptor[],
  { compare }: PlatformMatcher,
): readonly ImageDescriptor[] {
  return descriptors.toSorted((a, b) => {
    if (a.platform && b.platform) return compare(a.platform, b.platform);
    return Number(a.platform === undefined) - Number(b.platform === undefined);
  });
}

/** The platform that an image's configuration names, normalised. */
export async function configPlatform(
  ctx: Context,
  content: ContentStore,
  config: ImageDescriptor,
): Promise<Platform> {
  return normalizePlatform((await readConfig(ctx, content, config)).platform);
}

/** Every platform that an image is for; entries for none (attestations) are left out. */
export async function imagePlatforms(
  ctx: Context,
  content: ContentStore,
  image: ImageDescriptor,
): Promise<readonly Platform[]> {
  const found: Platform[] = [];
  await walk(
    ctx,
    async (at, descriptor) => {
      const { platform } = descriptor;
      if (platform) {
        const isNone = platform.os === "unknown" || platform.architecture === "unknown";
        if (!isNone) found.push(platform);
        return [];
      }
      if (isConfig(descriptor.mediaType)) found.push(await configPlatform(at, content, descriptor));
      return childrenOf(at, content, descriptor);
    },
    [image],
  );
  return found;
}

/**
 * The manifest of an image for a platform. A manifest that is the image itself is taken whatever its platform.
 *
 * Throws `not-found` when no platform matches or the manifest is not there.
 */
export async function manifestFor(
  ctx: Context,
  content: ContentStore,
  image: ImageDescriptor,
  platforms: PlatformMatcher,
): Promise<{ readonly descriptor: ImageDescriptor; readonly manifest: Manifest }> {
  if (isManifest(image.mediaType)) {
    return { descriptor: image, manifest: await readManifest(ctx, content, image) };
  }
  if (!isIndex(image.mediaType)) {
    throw notFound(`unexpected media type ${image.mediaType} for ${image.digest}`);
  }
  const { manifests } = await readIndex(ctx, content, image);
  for (const descriptor of byPlatform(ofPlatforms(manifests, platforms), platforms)) {
    if (!isManifest(descriptor.mediaType)) continue;
    const manifest = await readManifest(ctx, content, descriptor);
    if (descriptor.platform) return { descriptor, manifest };
    const platform = await configPlatform(ctx, content, manifest.config);
    if (platforms.matches(platform)) return { descriptor, manifest };
  }
  throw notFound(`no match for platform in manifest ${image.digest}`);
}
