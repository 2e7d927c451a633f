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

/** The type of a layer under another compression; undefined for what is no plain layer (encrypted, of another format). */
export function withCompression(mediaType: string, compression: Compression): string | undefined {
  const oci = ociForm.exec(mediaType)?.[1];
  if (oci !== undefined) return compression === "none" ? oci : `${oci}+${compression}`;
  const docker = dockerForm.exec(mediaType)?.[1];
  if (docker !== undefined) return compression === "none" ? docker : `${docker}.${compression}`;
  return undefined;
}

const counterparts: Readonly<Record<string, string>> = {
  [dockerManifestList]: ociIndex,
  [dockerManifest]: ociManifest,
  [dockerConfig]: ociConfig,
};

/** OCI's type for one of Docker's; any other stays. */
export function toOciType(mediaType: string): string {
  const known = counterparts[mediaType];
  if (known !== undefined) return known;
  const [, foreign, compression = ""] =
    /^application\/vnd\.docker\.image\.rootfs\.(foreign\.)?diff\.tar(\.gzip|\.zstd)?$/.exec(
      mediaType,
    ) ?? [undefined, undefined, undefined];
  if (!dockerForm.test(mediaType)) return mediaType;
  const kind = foreign === undefined ? "" : "nondistributable.";
  return `application/vnd.oci.image.layer.${kind}v1.tar${compression.replace(".", "+")}`;
}

export function isDockerType(mediaType: string): boolean {
  return mediaType.startsWith("application/vnd.docker.");
}
