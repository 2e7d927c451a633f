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

export function dataToAny(data: Uint8Array): Any {
  return toAny(DataSchema, { data });
}

export function windowToAny(bytes: number): Any {
  return toAny(WindowUpdateSchema, { update: bytes });
}
