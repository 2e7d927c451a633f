// Media types of images, OCI's and Docker's.

export const ociIndex = "application/vnd.oci.image.index.v1+json";
export const ociManifest = "application/vnd.oci.image.manifest.v1+json";
export const ociConfig = "application/vnd.oci.image.config.v1+json";
export const ociLayer = "application/vnd.oci.image.layer.v1.tar";
export const dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json";
export const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
export const dockerConfig = "application/vnd.docker.container.image.v1+json";
export const dockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
export const dockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/** The first form of Docker's manifests, signed; read by nobody any more. */
export const dockerSchema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";

const ociLayerPrefix = "application/vnd.oci.image.layer.";
const dockerForeignPrefix = "application/vnd.docker.image.rootfs.foreign.";
const otherLayers = new Set([
  dockerLayer,
  dockerLayerGzip,
  "application/vnd.docker.image.rootfs.diff.tar.zstd",
  `${dockerForeignPrefix}diff.tar`,
  `${dockerForeignPrefix}diff.tar.gzip`,
  "application/vnd.erofs.layer.v1",
]);
const checkpointConfigs = new Set([
  "application/vnd.containerd.container.criu.checkpoint.criu.tar",
  "application/vnd.containerd.container.checkpoint.config.v1+proto",
]);

export function isManifest(mediaType: string): boolean {
  return mediaType === ociManifest || mediaType === dockerManifest;
}

export function isIndex(mediaType: string): boolean {
  return mediaType === ociIndex || mediaType === dockerManifestList;
}

/** The configuration of an image. */
export function isConfig(mediaType: string): boolean {
  return mediaType === ociConfig || mediaType === dockerConfig;
}

/** The same, or that of a checkpoint. */
export function isKnownConfig(mediaType: string): boolean {
  return isConfig(mediaType) || checkpointConfigs.has(mediaType);
}

/** A layer, however it is wrapped (`+gzip`, `+encrypted`). */
export function isLayer(mediaType: string): boolean {
  if (mediaType.startsWith(ociLayerPrefix)) return true;
  return otherLayers.has(mediaType.split("+", 1)[0] ?? "");
}

export function isAttestation(mediaType: string): boolean {
  return mediaType === "application/vnd.in-toto+json";
}

/** A layer that its owner does not allow to be passed on. */
export function isNonDistributable(mediaType: string): boolean {
  const prefixes = [`${ociLayerPrefix}nondistributable.`, dockerForeignPrefix];
  return prefixes.some((prefix) => mediaType.startsWith(prefix));
}
