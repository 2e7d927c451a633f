import type { Compression } from "#pkg/archive/compression.ts";
import {
  dockerConfig,
  dockerManifest,
  dockerManifestList,
  ociConfig,
  ociIndex,
  ociManifest,
} from "#pkg/media-types.ts";

const ociForm =
  /^(application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar)(?:\+(?:gzip|zstd))?$/;
const dockerForm =
  /^(application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)(?:\.(?:gzip|zstd))?$/;

/** The type of a layer under another compression; undefined for what is no plain layer: encrypted, or no tar. */
export function withCompression(mediaType: string, compression: Compression): string | undefined {
  const oci = ociForm.exec(mediaType)?.[1];
  if (oci !== undefined) return compression === "none" ? oci : `${oci}+${compression}`;
  const docker = dockerForm.exec(mediaType)?.[1];
  if (docker !== undefined) return compression === "none" ? docker : `${docker}.${compression}`;
  return undefined;
}

const counterparts: ReadonlyMap<string, string> = new Map([
  [dockerManifestList, ociIndex],
  [dockerManifest, ociManifest],
  [dockerConfig, ociConfig],
]);

/** OCI's type for one of Docker's; any other stays. */
export function toOciType(mediaType: string): string {
  const docker = dockerForm.exec(mediaType)?.[1];
  if (docker === undefined) return counterparts.get(mediaType) ?? mediaType;
  const kind = docker.includes(".foreign.") ? "nondistributable." : "";
  const compression = mediaType.slice(docker.length).replace(".", "+");
  return `application/vnd.oci.image.layer.${kind}v1.tar${compression}`;
}

export function isDockerType(mediaType: string): boolean {
  return mediaType.startsWith("application/vnd.docker.");
}
