import type { HttpResponse } from "#core/remotes/http-client.ts";

export const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
export const dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json";
export const dockerSchema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
export const ociManifest = "application/vnd.oci.image.manifest.v1+json";
export const ociIndex = "application/vnd.oci.image.index.v1+json";

export const manifestAccept: string = [
  dockerManifest,
  dockerManifestList,
  ociManifest,
  ociIndex,
  "*/*",
].join(", ");

/** Whether registries keep it among the manifests rather than the blobs. */
export function isManifestType(mediaType: string): boolean {
  return [dockerManifest, dockerManifestList, ociManifest, ociIndex].includes(mediaType);
}

/** The type that a registry gives a manifest, without parameters. */
export function manifestTypeOf(response: HttpResponse): string {
  const type = (response.header("content-type") ?? "").split(";", 1)[0]?.trim() ?? "";
  // Some registries do not type what can only be schema 1.
  return type === "text/plain" ? dockerSchema1 : type;
}
