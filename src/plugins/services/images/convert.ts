import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { ImageSchema } from "#api/services/images/v1/images_pb.ts";
import type { DescriptorSchema } from "#api/types/descriptor_pb.ts";
import type { Image } from "#core/images/images.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf, parseDigest } from "#pkg/digest.ts";
import { invalidArgument, wrap } from "#pkg/errors.ts";
import { toSafeInteger } from "#pkg/safe-integer.ts";
import { nanosToTimestamp } from "#pkg/time.ts";

type WireImage = MessageShape<typeof ImageSchema>;
type WireDescriptor = MessageShape<typeof DescriptorSchema>;

export function imageToWire(image: Image): MessageInitShape<typeof ImageSchema> {
  const { mediaType, digest, sizeBytes, annotations } = image.target;
  return {
    name: image.name,
    labels: { ...image.labels },
    target: { mediaType, digest, size: BigInt(sizeBytes), annotations: { ...annotations } },
    createdAt: nanosToTimestamp(image.createdAt),
    updatedAt: nanosToTimestamp(image.updatedAt),
  };
}

export type GivenImage = Pick<Image, "name" | "labels" | "target">;

/** An image to be created, or one whose target is to be replaced. */
export function imageFromWire(image: WireImage | undefined): GivenImage {
  const named = requireName(image);
  return {
    name: named.name,
    labels: named.labels,
    target: descriptorFromWire(required(named.target)),
  };
}

/** An image of which only what the mask names counts: without `target` there, only its annotations are looked at. */
export function maskedImageFromWire(
  image: WireImage | undefined,
  fields: readonly string[],
): GivenImage {
  if (fields.length === 0 || fields.includes("target")) return imageFromWire(image);
  const { name, labels, target } = requireName(image);
  const unused = { mediaType: "", digest: digestOf(""), sizeBytes: 0 };
  return { name, labels, target: { ...unused, annotations: target?.annotations ?? {} } };
}

export function descriptorFromWire(descriptor: WireDescriptor): Descriptor {
  try {
    return {
      mediaType: descriptor.mediaType,
      digest: parseDigest(descriptor.digest),
      sizeBytes: toSafeInteger(descriptor.size, "size"),
      annotations: descriptor.annotations,
    };
  } catch (error) {
    throw wrap("image.Target", error);
  }
}

function requireName(image: WireImage | undefined): WireImage {
  if (!image || image.name === "") throw invalidArgument("Image.Name required");
  return image;
}

function required(target: WireDescriptor | undefined): WireDescriptor {
  if (!target) throw invalidArgument("Image.Target required");
  return target;
}
