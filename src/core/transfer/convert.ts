import { DataSchema, WindowUpdateSchema } from "#api/types/transfer/streaming_pb.ts";
import { fromAny, isOfType, toAny } from "#core/streaming/convert.ts";
import type { Any } from "#pkg/any.ts";

/** A message of a byte stream; undefined where the Any is none. Throws `invalid-argument` for a malformed one. */
export function byteStreamMessage(
  any: Any,
):
  | { readonly kind: "data"; readonly data: Uint8Array }
  | { readonly kind: "window"; readonly bytes: number }
  | undefined {
  if (isOfType(any, DataSchema)) return { kind: "data", data: fromAny(any, DataSchema).data };
  if (isOfType(any, WindowUpdateSchema)) {
    return { kind: "window", bytes: fromAny(any, WindowUpdateSchema).update };
  }
  return undefined;
}

/** Written by hand: one field, number 1. A general encoder grows a buffer to find out what is known here. */
export function dataToAny(data: Uint8Array): Any {
  if (data.length === 0) return { typeUrl: DataSchema.typeName, value: data };
  const head = [0x0a];
  let length = data.length;
  for (; length > 0x7f; length >>>= 7) head.push((length & 0x7f) | 0x80);
  head.push(length);
  return { typeUrl: DataSchema.typeName, value: Buffer.concat([Uint8Array.from(head), data]) };
}

export function windowToAny(bytes: number): Any {
  return toAny(WindowUpdateSchema, { update: bytes });
}
