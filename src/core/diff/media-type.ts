/** Of an uncompressed layer. */
export const layerMediaType = "application/vnd.oci.image.layer.v1.tar";

const ociBases = new Set([
  layerMediaType,
  "application/vnd.oci.image.layer.nondistributable.v1.tar",
]);

const dockerTypes = new Set([
  "application/vnd.docker.image.rootfs.diff.tar",
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd",
  "application/vnd.docker.image.rootfs.foreign.diff.tar",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
]);

/**
 * Whether blobs of this media type are layers, tar compressed or not. How a blob is compressed is
 * read from its first bytes: Docker's plain type may hold gzip.
 */
export function isLayer(mediaType: string): boolean {
  if (dockerTypes.has(mediaType)) return true;
  const [base = "", ...suffixes] = mediaType.split("+");
  if (!ociBases.has(base)) return false;
  return suffixes.length === 0 || (suffixes.length === 1 && isCompression(suffixes[0]));
}

function isCompression(suffix: string | undefined): boolean {
  return suffix === "gzip" || suffix === "zstd";
}
