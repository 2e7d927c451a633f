import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import type {
  Descriptor as DescriptorMessage,
  DescriptorSchema,
} from "#api/types/descriptor_pb.ts";
import type { Any } from "#pkg/any.ts";
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

/** A payload as stream processors read it: `google.protobuf.Any`, its type url as it came. */
export function anyBytes({ typeUrl, value }: Any): Uint8Array {
  return toBinary(AnySchema, create(AnySchema, { typeUrl, value: new Uint8Array(value) }));
}
