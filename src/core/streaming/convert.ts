import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Any as AnyMessage, AnySchema, EmptySchema } from "@bufbuild/protobuf/wkt";
import { StreamInitSchema } from "#api/services/streaming/v1/streaming_pb.ts";
import type { Any } from "#pkg/any.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";

/** A message in an Any, under its bare type name. */
export function toAny<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Any {
  return { typeUrl: schema.typeName, value: toBinary(schema, create(schema, init)) };
}

export function isOfType(any: Any, schema: DescMessage): boolean {
  return any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1) === schema.typeName;
}

/** Throws `invalid-argument` when the Any is of another type or does not parse. */
export function fromAny<S extends DescMessage>(any: Any, schema: S): MessageShape<S> {
  if (!isOfType(any, schema)) {
    const shown = JSON.stringify(any.typeUrl.slice(0, 256));
    throw invalidArgument(`type ${shown}, expected ${schema.typeName}`);
  }
  try {
    return fromBinary(schema, any.value);
  } catch (error) {
    throw invalidArgument(`malformed ${schema.typeName}: ${messageOf(error)}`);
  }
}

export function anyToWire({ typeUrl, value }: Any): AnyMessage {
  return create(AnySchema, { typeUrl, value });
}

export function anyFromWire({ typeUrl, value }: AnyMessage): Any {
  return { typeUrl, value };
}

/** The first message of a stream, by which its client names it. */
export function initToAny(id: string): Any {
  return toAny(StreamInitSchema, { id });
}

export function initFromAny(any: Any): string {
  return fromAny(any, StreamInitSchema).id;
}

/** The answer to it. */
export const emptyAny: Any = { typeUrl: EmptySchema.typeName, value: new Uint8Array() };
