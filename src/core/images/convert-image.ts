import type { ContentStore } from "#core/content/content.ts";
import { convertLayer } from "#core/images/convert-layer.ts";
import { labelChildren } from "#core/images/gc-labels.ts";
import { isDockerType, toOciType } from "#core/images/layer-media-type.ts";
import { childrenOf, ofPlatforms, readConfig, readDocument } from "#core/images/manifest.ts";
import { ReferenceCount } from "#core/images/walk.ts";
import { writeDocument } from "#core/images/write-blob.ts";
import type { Compression } from "#pkg/archive/compression.ts";
import type { Context } from "#pkg/context.ts";
import type { Digest } from "#pkg/digest.ts";
import { invalidArgument, notFound } from "#pkg/errors.ts";
import { descriptorToJson, type ImageDescriptor } from "#pkg/image-spec.ts";
import { isConfig, isIndex, isLayer, isManifest } from "#pkg/media-types.ts";
import type { PlatformMatcher } from "#pkg/platform-match.ts";

export interface ConvertOptions {
  /** Media types become OCI's. */
  readonly toOci: boolean;
  /** How layers are compressed; undefined: as they are. Their files, and so diff ids and snapshots, stay the same. */
  readonly compression: Compression | undefined;
  /** Manifests of an index for other platforms are left out. */
  readonly platforms: PlatformMatcher;
}

/** An index of indexes is unusual, a deep nest of them hostile. */
const depthMax = 8;

/**
 * Makes another form of an image; the caller holds a lease and names it. What does not change keeps its digest, and
 * the same image converted twice is the same bytes.
 *
 * Throws `not-found` for content that is not here and where no platform is left, `data-loss` for layers that are not
 * what their configuration says, `invalid-argument` for what is no image.
 */
export async function convertImage(
  ctx: Context,
  content: ContentStore,
  image: ImageDescriptor,
  options: ConvertOptions,
): Promise<ImageDescriptor> {
  return new Converter(content, options).convert(ctx, image, depthMax);
}

class Converter {
  readonly #content: ContentStore;
  readonly #options: ConvertOptions;
  readonly #count = new ReferenceCount();
  /** A layer that several manifests have is converted once. */
  readonly #layers = new Map<string, ImageDescriptor>();

  constructor(content: ContentStore, options: ConvertOptions) {
    this.#content = content;
    this.#options = options;
  }

  async convert(ctx: Context, target: ImageDescriptor, depth: number): Promise<ImageDescriptor> {
    ctx.throwIfEnded();
    this.#count.admit([target]);
    if (isManifest(target.mediaType)) return this.#manifest(ctx, target);
    if (!isIndex(target.mediaType)) {
      throw invalidArgument(`${target.digest} is no image: ${target.mediaType}`);
    }
    if (depth === 0) throw invalidArgument(`more than ${depthMax} indexes within each other`);
    const manifests = await childrenOf(ctx, this.#content, target);
    const wanted = ofPlatforms(manifests, this.#options.platforms);
    if (wanted.length === 0) throw notFound("no match for platform in manifest");
    const converted: ImageDescriptor[] = [];
    for (const manifest of wanted) {
      const isImage = isManifest(manifest.mediaType) || isIndex(manifest.mediaType);
      converted.push(isImage ? await this.convert(ctx, manifest, depth - 1) : manifest);
    }
    return this.#rewrite(ctx, target, { before: manifests, after: converted }, (entries) => ({
      manifests: entries,
    }));
  }

  async #manifest(ctx: Context, target: ImageDescriptor): Promise<ImageDescriptor> {
    const [config, ...layers] = await childrenOf(ctx, this.#content, target);
    if (!config) throw invalidArgument(`manifest ${target.digest} has no configuration`);
    this.#count.admit([config, ...layers]);
    const diffIds = isConfig(config.mediaType)
      ? (await readConfig(ctx, this.#content, config)).rootfs.diffIds
      : [];
    const converted: ImageDescriptor[] = [this.#retype(config)];
    for (const [i, layer] of layers.entries()) {
      converted.push(await this.#layer(ctx, layer, diffIds[i]));
    }
    const parts = { before: [config, ...layers], after: converted };
    return this.#rewrite(ctx, target, parts, ([first, ...rest]) => ({
      config: first,
      layers: rest,
    }));
  }

  async #layer(
    ctx: Context,
    layer: ImageDescriptor,
    diffId: Digest | undefined,
  ): Promise<ImageDescriptor> {
    const { compression } = this.#options;
    if (compression === undefined || !isLayer(layer.mediaType)) return this.#retype(layer);
    // What another manifest says of the same blob has not been held against it.
    const key = `${layer.digest} ${diffId} ${layer.mediaType}`;
    const known = this.#layers.get(key);
    const blob = known ?? (await convertLayer(ctx, this.#content, layer, { compression, diffId }));
    this.#layers.set(key, blob);
    const { digest, sizeBytes, mediaType } = blob;
    return this.#retype({ ...layer, digest, sizeBytes, mediaType });
  }

  #retype(descriptor: ImageDescriptor): ImageDescriptor {
    if (!this.#options.toOci) return descriptor;
    return { ...descriptor, mediaType: toOciType(descriptor.mediaType) };
  }

  /** The document with its parts exchanged, and every other key as it was; itself where no part has changed. */
  async #rewrite(
    ctx: Context,
    target: ImageDescriptor,
    { before, after }: Record<"before" | "after", readonly ImageDescriptor[]>,
    keysOf: (entries: readonly object[]) => object,
  ): Promise<ImageDescriptor> {
    const { mediaType } = this.#retype(target);
    const entries = after.map(descriptorToJson);
    const isSame = JSON.stringify(entries) === JSON.stringify(before.map(descriptorToJson));
    if (isSame && mediaType === target.mediaType) return target;
    const bytes = await readDocument(ctx, this.#content, target);
    // -- parsed before, as what its media type says
    const document = JSON.parse(Buffer.from(bytes).toString("utf8")) as Record<string, unknown>;
    const typed = "mediaType" in document || !isDockerType(mediaType) ? { mediaType } : {};
    const rewritten = { ...document, ...typed, ...keysOf(entries) };
    const written = await writeDocument(ctx, this.#content, rewritten, mediaType);
    await labelChildren(ctx, this.#content, written, after);
    const { digest, sizeBytes } = written;
    const { data: _data, ...rest } = target;
    return { ...rest, mediaType, digest, sizeBytes };
  }
}
