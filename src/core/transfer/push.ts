import type { ContentStore } from "#core/content/content.ts";
import { distributionSourceLabel as sourcePrefix } from "#core/images/annotations.ts";
import { childrenOf, ofPlatforms } from "#core/images/manifest.ts";
import { type Visit, walk } from "#core/images/walk.ts";
import type { Pusher } from "#core/remotes/remotes.ts";
import type { LocalParts } from "#core/transfer/local.ts";
import { ProgressTracker } from "#core/transfer/progress-tracker.ts";
import type { RegistryObject, StoreObject, TransferOptions } from "#core/transfer/transfer.ts";
import type { Limiter } from "#core/unpack/unpack.ts";
import type { Context } from "#pkg/context.ts";
import { type CodedError, isNotFound, wrap } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { isIndex, isManifest } from "#pkg/media-types.ts";
import { formatPlatformAll } from "#pkg/platform.ts";
import { anyPlatform, type PlatformMatcher, unorderedPlatforms } from "#pkg/platform-match.ts";
import { TaskGroup } from "#pkg/task-group.ts";

/** Sends an image to a registry: blobs, then the manifests that name them, then indexes from the inside out. */
export async function pushImage(
  ctx: Context,
  parts: LocalParts,
  source: StoreObject,
  target: RegistryObject,
  { progress }: TransferOptions,
): Promise<void> {
  const shown = `OCI Registry (${target.reference})`;
  const { platforms } = source;
  const matcher = platforms.length > 0 ? unorderedPlatforms(platforms) : anyPlatform;
  const image = await parts.images.get(ctx, source.name);
  const { name, target: descriptor } = image;
  progress?.({ event: `Pushing to ${shown}` });
  progress?.({ event: "pushing content", name, descriptor });
  // Only the image itself goes by the tag; whatever is below it by its digest.
  const { reference } = target;
  const ref = reference.includes("@") ? reference : `${reference}@${descriptor.digest}`;
  const pusher = await parts.openResolver(target).pusher(ctx, ref);
  const tracker = new ProgressTracker(name, "uploading", progress);
  const tree = await collect(ctx, parts.content, { root: descriptor, matcher, tracker });
  const push = { pusher, content: parts.content, tracker, limiter: parts.uploadLimiter };
  await pushAll(ctx, push, tree.blobs);
  await pushAll(ctx, push, tree.manifests);
  for (const index of tree.indexes.toReversed()) {
    await pushOne(ctx, push, index).catch((error: unknown) => {
      if (tree.leftOut.length === 0) throw error;
      throw wrap(
        "manifest list/index references to blobs and/or manifests are missing in your target registry",
        error,
      );
    });
  }
  progress?.({ event: "pushed content", name, descriptor });
  progress?.({ event: `Completed push to ${shown}`, descriptor });
}

interface Tree {
  readonly blobs: ImageDescriptor[];
  readonly manifests: ImageDescriptor[];
  /** Outer ones first. */
  readonly indexes: ImageDescriptor[];
  /** What indexes name and is not pushed: of other platforms, or not here. */
  readonly leftOut: ImageDescriptor[];
}

interface Collecting {
  readonly root: ImageDescriptor;
  readonly matcher: PlatformMatcher;
  readonly tracker: ProgressTracker;
}

async function collect(
  ctx: Context,
  content: ContentStore,
  { root, matcher, tracker }: Collecting,
): Promise<Tree> {
  const tree: Tree = { blobs: [], manifests: [], indexes: [], leftOut: [] };
  const seen = new Set<string>();
  await walk(
    ctx,
    async (at, descriptor) => {
      if (seen.has(descriptor.digest)) return [];
      seen.add(descriptor.digest);
      tracker.add(descriptor);
      if (isIndex(descriptor.mediaType)) tree.indexes.push(descriptor);
      else if (isManifest(descriptor.mediaType)) tree.manifests.push(descriptor);
      else tree.blobs.push(descriptor);
      const all = await childrenOf(at, content, descriptor);
      let children = ofPlatforms(all, matcher);
      if (matcher === anyPlatform && isIndex(descriptor.mediaType)) {
        children = await onlyWhole(at, content, children);
      }
      tree.leftOut.push(...all.filter((child) => !children.includes(child)));
      tracker.addChildren(descriptor, children);
      return withSources(at, content, descriptor, children);
    },
    [root],
  );
  return tree;
}

/** Platforms that nobody asked for need not be here; at least one is, or the first that is missing is an error. */
async function onlyWhole(
  ctx: Context,
  content: ContentStore,
  manifests: readonly ImageDescriptor[],
): Promise<readonly ImageDescriptor[]> {
  const whole: ImageDescriptor[] = [];
  /** By digest: an index may name one manifest thousands of times. */
  const known = new Map<string, boolean>();
  let missing: CodedError | undefined;
  for (const manifest of manifests) {
    const isWhole = known.get(manifest.digest);
    if (isWhole === true) whole.push(manifest);
    if (isWhole !== undefined) continue;
    known.set(manifest.digest, false);
    try {
      const visit: Visit = async (at, descriptor) => {
        await content.info(at, descriptor.digest);
        return childrenOf(at, content, descriptor);
      };
      await walk(ctx, visit, [manifest]);
      known.set(manifest.digest, true);
      whole.push(manifest);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      missing ??= wrap("push", error);
      const platform = manifest.platform ? formatPlatformAll(manifest.platform) : "unknown";
      ctx.logger.warn("not all of a platform is here, it is not pushed", { platform });
    }
  }
  if (whole.length === 0 && missing) throw missing;
  return whole;
}

/** With the repositories that have them, by their own labels and those of what names them. */
async function withSources(
  ctx: Context,
  content: ContentStore,
  parent: ImageDescriptor,
  children: readonly ImageDescriptor[],
): Promise<readonly ImageDescriptor[]> {
  if (children.length === 0) return children;
  const inherited = {
    ...sourcesAmong(parent.annotations),
    ...sourcesAmong(await labelsOf(ctx, content, parent)),
  };
  const annotated: ImageDescriptor[] = [];
  for (const child of children) {
    const own = sourcesAmong(await labelsOf(ctx, content, child));
    annotated.push({ ...child, annotations: { ...inherited, ...child.annotations, ...own } });
  }
  return annotated;
}

async function labelsOf(
  ctx: Context,
  content: ContentStore,
  { digest }: ImageDescriptor,
): Promise<Readonly<Record<string, string>>> {
  try {
    return (await content.info(ctx, digest)).labels;
  } catch (error) {
    if (isNotFound(error)) return {}; // the registry may have it
    throw error;
  }
}

function sourcesAmong(labels: Readonly<Record<string, string>>): Record<string, string> {
  const sources = Object.entries(labels).filter(([key]) => key.startsWith(`${sourcePrefix}.`));
  return Object.fromEntries(sources);
}

interface Pushing {
  readonly pusher: Pusher;
  readonly content: ContentStore;
  readonly tracker: ProgressTracker;
  readonly limiter: Limiter;
}

async function pushAll(
  ctx: Context,
  push: Pushing,
  descriptors: readonly ImageDescriptor[],
): Promise<void> {
  await using group = new TaskGroup(ctx.signal);
  for (const descriptor of descriptors) {
    group.go(async (signal) => {
      const scoped = ctx.withSignal(signal);
      using _place = await push.limiter.acquire(scoped);
      await pushOne(scoped, push, descriptor);
    });
  }
  await group.wait();
}

async function pushOne(
  ctx: Context,
  { pusher, content, tracker }: Pushing,
  descriptor: ImageDescriptor,
): Promise<void> {
  // Opened when the registry asks for it: content that is there already need not be here.
  const source = {
    async *stream(range: { readonly offset?: number } = {}): AsyncGenerator<Uint8Array> {
      await using reader = await content.open(ctx, descriptor.digest);
      yield* reader.stream(range);
    },
  };
  const onProgress = (offset: number): void => tracker.moved(descriptor, offset);
  const { outcome } = await pusher.push(ctx, descriptor, source, { onProgress });
  if (outcome === "pushed") tracker.completed(descriptor);
  else tracker.existed(descriptor);
}
