import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  Descriptor as DescriptorMessage,
  DescriptorSchema,
} from "#api/types/descriptor_pb.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { parseDigest } from "#pkg/digest.ts";
import { invalidArgument } from "#pkg/errors.ts";

/** Throws `invalid-argument` naming the field. */
export function descriptorOf(message: DescriptorMessage | undefined, field: string): Descriptor {
  if (!message) throw invalidArgument(`${field} is missing`);
  const sizeBytes = Number(message.size);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw invalidArgument(`${field}: size ${message.size}`);
  }
  return {
    mediaType: message.mediaType,
    digest: parseDigest(message.digest),
    sizeBytes,
    annotations: message.annotations,
  };
}

export function descriptorMessage(
  descriptor: Descriptor,
): MessageInitShape<typeof DescriptorSchema> {
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: BigInt(descriptor.sizeBytes),
    annotations: { ...descriptor.annotations },
  };
}
