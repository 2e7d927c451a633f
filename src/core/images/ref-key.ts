import { refNameAnnotation } from "#core/images/annotations.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { isAttestation, isIndex, isKnownConfig, isLayer, isManifest } from "#pkg/media-types.ts";

/** The ingest that content is fetched under, and its name in progress: `layer-sha256:..`. */
export function refKey({ mediaType, digest, annotations }: ImageDescriptor): string {
  const name = annotations[refNameAnnotation];
  return `${kindOf(mediaType)}-${name === undefined ? digest : `${name}@${digest}`}`;
}

function kindOf(mediaType: string): string {
  if (isManifest(mediaType)) return "manifest";
  if (isIndex(mediaType)) return "index";
  if (isLayer(mediaType)) return "layer";
  if (isKnownConfig(mediaType)) return "config";
  if (isAttestation(mediaType)) return "attestation";
  return "unknown";
}
