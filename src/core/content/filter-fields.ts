import type { ContentInfo, IngestStatus } from "#core/content/content.ts";
import { type Adaptor, labelField } from "#pkg/filters/filter.ts";

/** What filters see of a blob: `digest` and `labels`; `size` is never present, as upstream. */
export function contentField(info: ContentInfo): Adaptor {
  return (path) => {
    if (path[0] === "digest") return info.digest;
    return path[0] === "labels" ? labelField(info.labels, path) : undefined;
  };
}

export function statusField(status: IngestStatus): Adaptor {
  return (path) => (path[0] === "ref" ? status.ref : undefined);
}
