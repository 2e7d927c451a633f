import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { fitsLabel } from "#pkg/label.ts";
import { isLayer } from "#pkg/media-types.ts";

// Remote snapshotters know them by the prefix, whoever pulls.
const prefix = "containerd.io/snapshot/cri.";
const layersLabel = `${prefix}image-layers`;

/** A manifest's parts, its layers saying what image they are of: by that, a remote snapshotter finds them itself. */
export function withImageInfo(
  imageName: string,
  manifest: ImageDescriptor,
  parts: readonly ImageDescriptor[],
): readonly ImageDescriptor[] {
  return parts.map((part, i) => {
    if (!isLayer(part.mediaType)) return part;
    const annotations = {
      ...part.annotations,
      [`${prefix}image-ref`]: imageName,
      [`${prefix}layer-digest`]: part.digest,
      [layersLabel]: digestsOf(parts.slice(i)),
      [`${prefix}manifest-digest`]: manifest.digest,
    };
    return { ...part, annotations };
  });
}

/** This layer and those above it, as many as a label holds: they are hints of what is wanted next. */
function digestsOf(parts: readonly ImageDescriptor[]): string {
  let list = "";
  for (const { digest } of parts.filter(({ mediaType }) => isLayer(mediaType))) {
    const longer = list === "" ? digest : `${list},${digest}`;
    if (!fitsLabel(layersLabel, longer)) break;
    list = longer;
  }
  return list;
}
