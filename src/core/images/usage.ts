import type { ContentStore } from "#core/content/content.ts";
import { childrenOf, ofPlatforms, readConfig } from "#core/images/manifest.ts";
import { walk } from "#core/images/walk.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { chainIds } from "#core/unpack/chain-id.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import { isNotFound } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { isConfig } from "#pkg/media-types.ts";
import type { PlatformMatcher } from "#pkg/platform-match.ts";

/** What an image takes up, each piece counted once however often it is named. */
export interface ImageUsage {
  /** Of the content that is here. */
  readonly contentBytes: number;
  /** Of what it names and is not here, by what is said of it. */
  readonly missingBytes: number;
  /** Of the files of its snapshots. */
  readonly snapshotBytes: number;
}

/** Throws `resource-exhausted` for an image of too many references. */
export async function imageUsage(
  ctx: Context,
  content: ContentStore,
  image: ImageDescriptor,
  options: {
    readonly platforms: PlatformMatcher;
    readonly snapshotters: Iterable<Pick<Snapshotter, "usage">>;
  },
): Promise<ImageUsage> {
  const seen = new Set<Digest>();
  const chains = new Set<Digest>();
  const bytes = { here: 0, missing: 0 };
  const visit = async (
    at: Context,
    descriptor: ImageDescriptor,
  ): Promise<readonly ImageDescriptor[]> => {
    if (seen.has(descriptor.digest)) return [];
    seen.add(descriptor.digest);
    const size = await sizeOf(at, content, descriptor.digest);
    if (size === undefined) {
      bytes.missing += descriptor.sizeBytes;
      return [];
    }
    bytes.here += size;
    if (isConfig(descriptor.mediaType)) {
      const { rootfs } = await readConfig(at, content, descriptor);
      for (const chain of chainIds(rootfs.diffIds)) chains.add(chain);
    }
    return ofPlatforms(await childrenOf(at, content, descriptor), options.platforms);
  };
  await walk(ctx, visit, [image]);
  let snapshotBytes = 0;
  for (const snapshotter of options.snapshotters) {
    for (const chain of chains) snapshotBytes += await usageOf(ctx, snapshotter, chain);
  }
  return { contentBytes: bytes.here, missingBytes: bytes.missing, snapshotBytes };
}

async function sizeOf(
  ctx: Context,
  content: ContentStore,
  digest: Digest,
): Promise<number | undefined> {
  try {
    return (await content.info(ctx, digest)).sizeBytes;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function usageOf(
  ctx: Context,
  snapshotter: Pick<Snapshotter, "usage">,
  key: string,
): Promise<number> {
  try {
    return (await snapshotter.usage(ctx, key)).sizeBytes;
  } catch (error) {
    if (isNotFound(error)) return 0;
    throw error;
  }
}
