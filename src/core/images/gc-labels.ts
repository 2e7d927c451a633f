import type { ContentStore } from "#core/content/content.ts";
import { subjectAnnotation } from "#core/images/annotations.ts";
import type { Context } from "#pkg/context.ts";
import { digestHex } from "#pkg/digest.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import type { Labels } from "#pkg/label.ts";
import { isKnownConfig, isLayer, isManifest } from "#pkg/media-types.ts";

const prefix = "containerd.io/gc.ref.content.";
const referrerHexLength = 12;

/** The labels by which content keeps what it names from being collected; a key's last part counts up. */
export function childLabels(children: readonly ImageDescriptor[]): Labels {
  const labels: Record<string, string> = {};
  const counts = new Map<string, number>();
  for (const child of children) {
    const key = labelKey(child);
    const count = counts.get(key) ?? 0;
    counts.set(key, count + 1);
    if (key.endsWith(".sha256.")) {
      labels[key + digestHex(child.digest).slice(0, referrerHexLength)] = child.digest;
    } else {
      labels[count > 0 || key.endsWith(".") ? `${key}${count}` : key] = child.digest;
    }
  }
  return labels;
}

function labelKey(child: ImageDescriptor): string {
  if (child.annotations[subjectAnnotation] !== undefined) return `${prefix}referrer.sha256.`;
  if (isKnownConfig(child.mediaType)) return `${prefix}config`;
  if (isManifest(child.mediaType)) return `${prefix}m.`;
  if (isLayer(child.mediaType)) return `${prefix}l.`;
  return prefix;
}

/** Ties children to their parent. They need not be there. */
export async function labelChildren(
  ctx: Context,
  content: ContentStore,
  parent: ImageDescriptor,
  children: readonly ImageDescriptor[],
): Promise<void> {
  if (children.length === 0) return;
  const labels = childLabels(children);
  const fields = Object.keys(labels).map((key) => `labels.${key}`);
  await content.update(ctx, { digest: parent.digest, labels }, fields);
}
