import * as v from "valibot";
import type { ContentStore } from "#core/content/content.ts";
import { uncompressedLabel } from "#core/images/annotations.ts";
import type { ArchivedBlob, TakenArchive } from "#core/images/archive-intake.ts";
import { nameAnnotations } from "#core/images/archive-name.ts";
import { compressBlob } from "#core/images/compress-blob.ts";
import { normalizeDockerReference } from "#core/images/docker-reference.ts";
import { imagePlatforms } from "#core/images/manifest.ts";
import { writeDocument } from "#core/images/write-blob.ts";
import { magicBytes, sniffCompression } from "#pkg/archive/compression.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, messageOf, wrap } from "#pkg/errors.ts";
import { descriptorToJson, type ImageDescriptor } from "#pkg/image-spec.ts";
import {
  dockerConfig,
  dockerLayer,
  dockerLayerGzip,
  dockerManifest,
  ociIndex,
} from "#pkg/media-types.ts";

const texts = v.optional(v.nullable(v.array(v.string())));
const schema = v.nullable(
  v.array(v.object({ Config: v.string(), RepoTags: texts, Layers: texts })),
);

export interface DockerArchiveOptions {
  /** Compress layers that are not. */
  readonly forceCompress: boolean;
}

/** Makes manifests, and an index of them, from what `docker save` says about its files. */
export async function indexDockerArchive(
  ctx: Context,
  content: ContentStore,
  archive: TakenArchive,
  options: DockerArchiveOptions,
): Promise<ImageDescriptor> {
  const manifests: ImageDescriptor[] = [];
  for (const image of parseManifests(archive)) {
    const manifest = await storeManifest(ctx, content, archive, image, options);
    const names = (image.RepoTags ?? []).map(normalizeDockerReference);
    if (names.length === 0) manifests.push(manifest);
    for (const name of names) manifests.push({ ...manifest, annotations: nameAnnotations(name) });
  }
  const index = { schemaVersion: 2, manifests: manifests.map(descriptorToJson) };
  return writeDocument(ctx, content, index, ociIndex);
}

type SavedImage = NonNullable<v.InferOutput<typeof schema>>[number];

function parseManifests(archive: TakenArchive): readonly SavedImage[] {
  const bytes = archive.documents.get("manifest.json");
  if (!bytes) throw invalidArgument("unrecognized image format");
  try {
    const images = v.parse(schema, JSON.parse(bytes.toString("utf8")));
    if (images) return images;
  } catch (error) {
    throw invalidArgument(`untar manifest "manifest.json": ${messageOf(error)}`);
  }
  throw invalidArgument("unrecognized image format");
}

async function storeManifest(
  ctx: Context,
  content: ContentStore,
  archive: TakenArchive,
  image: SavedImage,
  options: DockerArchiveOptions,
): Promise<ImageDescriptor> {
  const config = archive.find(image.Config);
  if (!config) throw invalidArgument(`image config ${JSON.stringify(image.Config)} not found`);
  const layers: ImageDescriptor[] = [];
  for (const name of image.Layers ?? []) {
    const blob = archive.find(name);
    if (!blob) {
      throw invalidArgument(`failed to resolve layers: layer ${JSON.stringify(name)} not found`);
    }
    layers.push(await layerOf(ctx, content, blob, options));
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: dockerManifest,
    config: descriptorToJson({ mediaType: dockerConfig, ...config, annotations: {} }),
    layers: layers.map(descriptorToJson),
  };
  const descriptor = await writeDocument(ctx, content, manifest, dockerManifest);
  try {
    const [platform] = await imagePlatforms(ctx, content, descriptor);
    return { ...descriptor, ...(platform && { platform }) };
  } catch (error) {
    throw wrap("unable to resolve platform", error);
  }
}

/** The blob as a layer; where the store has it compressed already, that one, so that equal layers are one. */
async function layerOf(
  ctx: Context,
  content: ContentStore,
  blob: ArchivedBlob,
  { forceCompress }: DockerArchiveOptions,
): Promise<ImageDescriptor> {
  const compressed = await findCompressed(ctx, content, blob);
  const layer = compressed ?? blob;
  const mediaType = await layerType(ctx, content, layer);
  const descriptor = { mediaType, ...layer, annotations: {} };
  if (mediaType !== dockerLayer || !forceCompress) return descriptor;
  return {
    ...descriptor,
    mediaType: dockerLayerGzip,
    ...(await compressBlob(ctx, content, layer)),
  };
}

async function findCompressed(
  ctx: Context,
  content: ContentStore,
  { digest }: ArchivedBlob,
): Promise<ArchivedBlob | undefined> {
  const filter = `labels.${JSON.stringify(uncompressedLabel)}==${digest}`;
  for await (const info of content.list(ctx, [filter])) {
    return { digest: info.digest, sizeBytes: info.sizeBytes };
  }
  return undefined;
}

async function layerType(
  ctx: Context,
  content: ContentStore,
  { digest }: ArchivedBlob,
): Promise<string> {
  await using reader = await content.open(ctx, digest);
  const head = await reader.read(0, Math.min(magicBytes, reader.sizeBytes));
  const compression = sniffCompression(head);
  return compression === "none" ? dockerLayer : `${dockerLayer}.${compression}`;
}
