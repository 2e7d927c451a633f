import type { SnapshotInfo } from "#core/snapshots/snapshots.ts";
import { type Adaptor, labelField } from "#pkg/filters/filter.ts";

/** What filters see of a snapshot: `kind`, `name`, `parent`, `labels`. */
export function snapshotField(info: SnapshotInfo): Adaptor {
  return (path) => {
    switch (path[0]) {
      case "kind":
        return info.kind;
      case "name":
        return info.name;
      case "parent":
        return info.parent;
      case "labels":
        return labelField(info.labels, path);
      default:
        return undefined;
    }
  };
}
