import type { ContentStore } from "#core/content/content.ts";
import { labelChildren } from "#core/images/gc-labels.ts";
import { readManifest } from "#core/images/manifest.ts";
import { writeDocument } from "#core/images/write-blob.ts";
import type { Context } from "#pkg/context.ts";
import { descriptorToJson, type ImageDescriptor } from "#pkg/image-spec.ts";
import { dockerConfig, dockerManifest } from "#pkg/media-types.ts";

/** What old versions of Docker pushed configurations as (docker/distribution 1622). */
const legacyType = "application/octet-stream";
/** Upstream's: the same image gets the same digest. */
const indent = 3;

/** The parts of Docker's manifest, its configuration under its own type whatever it was pushed as. */
export function withConfigType(
  { mediaType }: ImageDescriptor,
  parts: readonly ImageDescriptor[],
): readonly ImageDescriptor[] {
  const [config, ...layers] = parts;
  if (mediaType !== dockerManifest || config?.mediaType !== legacyType) return parts;
  return [{ ...config, mediaType: dockerConfig }, ...layers];
}

/** Such a manifest written anew, so that others know the configuration for one; any other stays. */
export async function rewriteLegacy(
  ctx: Context,
  content: ContentStore,
  target: ImageDescriptor,
): Promise<ImageDescriptor> {
  if (target.mediaType !== dockerManifest) return target;
  const { config, layers } = await readManifest(ctx, content, target);
  if (config.mediaType !== legacyType) return target;
  const parts = withConfigType(target, [config, ...layers]);
  const [typed, ...others] = parts.map(descriptorToJson);
  const { mediaType } = target;
  const document = { schemaVersion: 2, mediaType, config: typed, layers: others };
  const written = await writeDocument(ctx, content, document, mediaType, { indent });
  await labelChildren(ctx, content, written, parts);
  return written;
}
