import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Info as InfoMessage,
  type InfoSchema,
  Kind,
} from "#api/services/snapshots/v1/snapshots_pb.ts";
import type { SnapshotInfo, SnapshotKind } from "#core/snapshots/snapshots.ts";
import { nanosToTimestamp, timestampToNanos } from "#pkg/time.ts";

const kinds = {
  view: Kind.VIEW,
  active: Kind.ACTIVE,
  committed: Kind.COMMITTED,
} as const satisfies Record<SnapshotKind, Kind>;

export function infoMessage(info: SnapshotInfo): MessageInitShape<typeof InfoSchema> {
  return {
    name: info.name,
    parent: info.parent,
    kind: kinds[info.kind],
    createdAt: nanosToTimestamp(info.createdAt),
    updatedAt: nanosToTimestamp(info.updatedAt),
    labels: { ...info.labels },
  };
}

/** Anything but view and active counts as committed, as upstream. */
export function infoOf(message: InfoMessage): SnapshotInfo {
  const kind =
    message.kind === Kind.VIEW ? "view" : message.kind === Kind.ACTIVE ? "active" : "committed";
  return {
    kind,
    name: message.name,
    parent: message.parent,
    labels: message.labels,
    createdAt: message.createdAt ? timestampToNanos(message.createdAt) : 0n,
    updatedAt: message.updatedAt ? timestampToNanos(message.updatedAt) : 0n,
  };
}
