import type { ContentStore } from "#core/content/content.ts";
import { distributionSourceLabel } from "#core/images/annotations.ts";
import { nameAnnotations } from "#core/images/archive-name.ts";
import { type ArchiveRecord, writeArchive } from "#core/images/archive-writer.ts";
import { familiarDockerReference } from "#core/images/docker-reference.ts";
import type { Image } from "#core/images/images.ts";
import { byPlatform, childrenOf, readIndex, readManifest } from "#core/images/manifest.ts";
import { walk } from "#core/images/walk.ts";
import type { Context } from "#pkg/context.ts";
import { type Digest, digestAlgorithm, digestHex } from "#pkg/digest.ts";
import { invalidArgument, isNotFound, notFound } from "#pkg/errors.ts";
import { descriptorToJson, type ImageDescriptor } from "#pkg/image-spec.ts";
import { isIndex, isManifest, isNonDistributable, ociIndex } from "#pkg/media-types.ts";
import { formatPlatformAll } from "#pkg/platform.ts";
import type { PlatformMatcher } from "#pkg/platform-match.ts";

export interface ExportOptions {
  /** Which manifests of an index are exported; the best of them is the one that `docker load` sees. */
  readonly platforms: PlatformMatcher;
  /** Those of other platforms as well, as far as they are here. */
  readonly allPlatforms: boolean;
  readonly skipDockerManifest: boolean;
  readonly skipNonDistributable: boolean;
  /** Told of each manifest of another platform that is left out because it is not here, or not all of it. */
  readonly onMissing?: ((manifest: ImageDescriptor) => void) | undefined;
}

/**
 * Writes images as an OCI layout that `docker load` reads as well. The bytes follow from the images alone, not from
 * time or order of their making.
 *
 * Throws `not-found` for content that is not here, and where an index has nothing for the platforms; `data-loss` when a
 * blob is not what its digest says.
 */
export async function exportArchive(
  ctx: Context,
  content: ContentStore,
  images: readonly Image[],
  options: ExportOptions,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const plan = new ExportPlan(content, options);
  for (const image of images) await plan.add(ctx, image);
  await writeArchive(ctx, content, await plan.records(ctx), write);
}

interface DockerImage {
  readonly manifest: ImageDescriptor;
  readonly names: string[];
}

class ExportPlan {
  readonly #content: ContentStore;
  readonly #options: ExportOptions;
  readonly #entries: ImageDescriptor[] = [];
  readonly #blobs = new Map<Digest, ImageDescriptor>();
  /** By the digest of what an image's name stands for; none where that has nothing for Docker. */
  readonly #resolved = new Map<Digest, ImageDescriptor | undefined>();
  readonly #docker = new Map<Digest, DockerImage>();

  constructor(content: ContentStore, options: ExportOptions) {
    this.#content = content;
    this.#options = options;
  }

  async add(ctx: Context, { name, target }: Image): Promise<void> {
    if (!isManifest(target.mediaType) && !isIndex(target.mediaType)) {
      throw invalidArgument(`only manifests may be exported: ${JSON.stringify(name)}`);
    }
    const { labels } = await this.#content.info(ctx, target.digest);
    const sources = Object.entries(labels).filter(([key]) =>
      key.startsWith(distributionSourceLabel),
    );
    const annotations = {
      ...target.annotations,
      ...nameAnnotations(name),
      ...Object.fromEntries(sources),
    };
    const entry: ImageDescriptor = { ...target, annotations };
    if (!this.#resolved.has(entry.digest)) {
      const manifest = isManifest(entry.mediaType)
        ? await this.#addManifest(ctx, entry)
        : await this.#addIndex(ctx, entry);
      this.#resolved.set(entry.digest, manifest);
    }
    this.#entries.push(entry);
    const manifest = this.#resolved.get(entry.digest);
    if (!manifest) return;
    const docker = this.#docker.get(manifest.digest) ?? { manifest, names: [] };
    docker.names.push(name);
    this.#docker.set(manifest.digest, docker);
  }

  async #addManifest(ctx: Context, manifest: ImageDescriptor): Promise<ImageDescriptor> {
    for (const blob of await this.#tree(ctx, manifest)) this.#blobs.set(blob.digest, blob);
    return manifest;
  }

  async #addIndex(ctx: Context, index: ImageDescriptor): Promise<ImageDescriptor | undefined> {
    const { platforms, allPlatforms } = this.#options;
    const { manifests } = await readIndex(ctx, this.#content, index);
    const wanted: ImageDescriptor[] = [];
    let others = 0;
    for (const manifest of manifests) {
      const isWanted = !manifest.platform || platforms.matches(manifest.platform);
      if (isWanted) {
        await this.#addManifest(ctx, manifest);
        wanted.push(manifest);
      } else if (allPlatforms && (await this.#addIfHere(ctx, manifest))) {
        others++;
      }
    }
    if (wanted.length + others === 0) throw notFound("no manifest found for platform");
    this.#blobs.set(index.digest, index);
    return byPlatform(wanted, platforms).find(({ mediaType }) => isManifest(mediaType));
  }

  async #addIfHere(ctx: Context, manifest: ImageDescriptor): Promise<boolean> {
    try {
      const blobs = await this.#tree(ctx, manifest);
      for (const { digest } of blobs) await this.#content.info(ctx, digest);
      for (const blob of blobs) this.#blobs.set(blob.digest, blob);
      return true;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      const { digest, platform } = manifest;
      const shown = platform ? formatPlatformAll(platform) : "unknown";
      ctx.logger.warn("not all of a platform is here, it is not exported", {
        digest,
        platform: shown,
      });
      this.#options.onMissing?.(manifest);
      return false;
    }
  }

  async #tree(ctx: Context, root: ImageDescriptor): Promise<readonly ImageDescriptor[]> {
    const blobs: ImageDescriptor[] = [];
    await walk(
      ctx,
      async (at, descriptor) => {
        const { skipNonDistributable } = this.#options;
        if (skipNonDistributable && isNonDistributable(descriptor.mediaType)) return [];
        blobs.push(descriptor);
        return childrenOf(at, this.#content, descriptor);
      },
      [root],
    );
    return blobs;
  }

  async records(ctx: Context): Promise<readonly ArchiveRecord[]> {
    const index = {
      schemaVersion: 2,
      mediaType: ociIndex,
      manifests: this.#entries.map(descriptorToJson),
    };
    const records: ArchiveRecord[] = [
      document("oci-layout", { imageLayoutVersion: "1.0.0" }, 0o444),
      document("index.json", index, 0o644),
    ];
    if (!this.#options.skipDockerManifest && this.#docker.size > 0) {
      records.push(document("manifest.json", await this.#dockerManifest(ctx), 0o644));
    }
    const algorithms = new Set([...this.#blobs.keys()].map(digestAlgorithm));
    if (algorithms.size > 0) records.push({ kind: "directory", name: "blobs/" });
    for (const name of algorithms) records.push({ kind: "directory", name: `blobs/${name}/` });
    for (const { digest, sizeBytes } of this.#blobs.values()) {
      records.push({ kind: "blob", name: blobPath(digest), digest, sizeBytes });
    }
    return records;
  }

  async #dockerManifest(ctx: Context): Promise<object> {
    const images: object[] = [];
    for (const { manifest, names } of this.#docker.values()) {
      const { config, layers } = await readManifest(ctx, this.#content, manifest);
      const tags = names.map(familiarDockerReference);
      const paths = layers.map(({ digest }) => blobPath(digest));
      images.push({
        Config: blobPath(config.digest),
        RepoTags: tags.length > 0 ? tags : null,
        Layers: paths.length > 0 ? paths : null,
      });
    }
    return images;
  }
}

function blobPath(digest: Digest): string {
  return `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;
}

function document(name: string, value: object, mode: number): ArchiveRecord {
  return { kind: "document", name, mode, bytes: Buffer.from(JSON.stringify(value)) };
}
