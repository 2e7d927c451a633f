import { fromBinary } from "@bufbuild/protobuf";
import { OptionsSchema as RuncOptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { OptionsSchema as RuntimeOptionsSchema } from "#api/types/runtimeoptions/v1/api_pb.ts";
import { type GoObject, toGoJson } from "#cri/go-json.ts";
import type { Any } from "#pkg/any.ts";
import { CodedError, messageOf } from "#pkg/errors.ts";

const schemas = [RuncOptionsSchema, RuntimeOptionsSchema];

/** A runtime's options, to be shown; null where there are none. Throws for what is not known. */
export function runtimeOptionsJson(options: Any | undefined): GoObject | null {
  if (!options || options.value.length === 0) return null;
  const schema = schemas.find(({ typeName }) => options.typeUrl.endsWith(typeName));
  const what = `failed to get runtime options: ${JSON.stringify(options.typeUrl)}`;
  if (!schema) throw new CodedError("unknown", `${what}: unknown type`);
  try {
    return toGoJson(schema, fromBinary(schema, options.value));
  } catch (error) {
    throw new CodedError("unknown", `${what}: ${messageOf(error)}`, { cause: error });
  }
}
