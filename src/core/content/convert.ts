import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { InfoSchema, StatusSchema } from "#api/services/content/v1/content_pb.ts";
import type { ContentInfo, IngestStatus } from "#core/content/content.ts";
import { type Digest, parseDigest } from "#pkg/digest.ts";
import { toSize } from "#pkg/safe-integer.ts";
import { nanosToTimestamp, timestampToNanos, type UnixNanos } from "#pkg/time.ts";

export function infoToWire(info: ContentInfo): MessageInitShape<typeof InfoSchema> {
  return {
    digest: info.digest,
    size: BigInt(info.sizeBytes),
    createdAt: nanosToTimestamp(info.createdAt),
    updatedAt: nanosToTimestamp(info.updatedAt),
    labels: { ...info.labels },
  };
}

export function infoFromWire(info: MessageShape<typeof InfoSchema>): ContentInfo {
  return {
    digest: parseDigest(info.digest),
    sizeBytes: toSize(info.size, "size"),
    createdAt: timeFromWire(info.createdAt),
    updatedAt: timeFromWire(info.updatedAt),
    labels: info.labels,
  };
}

export function statusToWire(status: IngestStatus): MessageInitShape<typeof StatusSchema> {
  return {
    ref: status.ref,
    offset: BigInt(status.offset),
    total: BigInt(status.total),
    expected: status.expected ?? "",
    startedAt: nanosToTimestamp(status.startedAt),
    updatedAt: nanosToTimestamp(status.updatedAt),
  };
}

export function statusFromWire(status: MessageShape<typeof StatusSchema>): IngestStatus {
  return {
    ref: status.ref,
    offset: toSize(status.offset, "offset"),
    total: toSize(status.total, "total"),
    expected: digestFromWire(status.expected),
    startedAt: timeFromWire(status.startedAt),
    updatedAt: timeFromWire(status.updatedAt),
  };
}

/** An empty digest is none. */
export function digestFromWire(text: string): Digest | undefined {
  return text === "" ? undefined : parseDigest(text);
}

export function timeFromWire(timestamp: { seconds: bigint; nanos: number } | undefined): UnixNanos {
  return timestamp ? timestampToNanos(timestamp) : 0n;
}
