/** The full name of an image, on the entry of an archive's index. */
export const imageNameAnnotation = "io.containerd.image.name";

/** OCI's own: usually only a tag. */
export const refNameAnnotation = "org.opencontainers.image.ref.name";

/** On a descriptor that was found as a referrer: the digest of what it refers to. */
export const subjectAnnotation = "io.containerd.manifest.subject";

/** Label and annotation, with a registry's host behind it: repositories that have the content. */
export const distributionSourceLabel = "containerd.io/distribution.source";

/** Label of a layer's blob: the digest of what it holds uncompressed. */
export const uncompressedLabel = "containerd.io/uncompressed";
