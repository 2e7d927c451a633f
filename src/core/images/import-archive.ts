import * as v from "valibot";
import type { ContentStore } from "#core/content/content.ts";
import { type TakenArchive, takeArchive } from "#core/images/archive-intake.ts";
import { indexDockerArchive } from "#core/images/docker-archive.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { ociIndex } from "#pkg/media-types.ts";

const layoutVersion = "1.0.0";
const layoutSchema = v.object({ imageLayoutVersion: v.optional(v.string(), "") });

/**
 * Stores what an uncompressed archive holds, an OCI layout or else what `docker save` writes, and answers its index;
 * the caller holds a lease. Nothing is named or tied together yet.
 *
 * Throws `invalid-argument` for an archive that is neither, or is damaged.
 */
export async function importArchive(
  ctx: Context,
  content: ContentStore,
  bytes: AsyncIterable<Buffer>,
  options: { readonly forceCompress: boolean },
): Promise<ImageDescriptor> {
  const archive = await takeArchive(ctx, content, bytes);
  if (!isOciLayout(archive)) return indexDockerArchive(ctx, content, archive, options);
  const index = archive.find("index.json");
  if (!index) throw invalidArgument(`missing index.json in OCI layout ${layoutVersion}`);
  return { mediaType: ociIndex, ...index, annotations: {} };
}

function isOciLayout(archive: TakenArchive): boolean {
  const bytes = archive.documents.get("oci-layout");
  if (!bytes) return false;
  let version: string;
  try {
    version = v.parse(layoutSchema, JSON.parse(bytes.toString("utf8"))).imageLayoutVersion;
  } catch (error) {
    throw invalidArgument(`untar oci layout "oci-layout": ${messageOf(error)}`);
  }
  if (version === "") return false;
  if (version === layoutVersion) return true;
  throw invalidArgument(`unsupported OCI version ${version}`);
}
