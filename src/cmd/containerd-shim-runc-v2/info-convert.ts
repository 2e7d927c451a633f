import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any as AnyMessage, AnySchema } from "@bufbuild/protobuf/wkt";
import { RuntimeInfoSchema } from "#api/types/introspection_pb.ts";
import { fromOptions } from "#shim/convert.ts";
import { defaultOptions, type RuncOptions } from "#shim/options.ts";

const featuresType = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/** Standard input of `-info`: the options as an Any, or nothing. */
export function parseInfoInput(input: Uint8Array): { any?: AnyMessage; options: RuncOptions } {
  if (input.length === 0) return { options: defaultOptions };
  const any = fromBinary(AnySchema, input);
  return { any, options: fromOptions(any) };
}

export function formatInfo(info: {
  readonly name: string;
  readonly version: string;
  readonly revision: string;
  readonly options: AnyMessage | undefined;
  /** JSON as the runtime printed it. */
  readonly features: string | undefined;
}): Uint8Array {
  const { name, version, revision, options, features } = info;
  const message = create(RuntimeInfoSchema, {
    name,
    version: { version, revision },
    ...(options && { options }),
    ...(features !== undefined && {
      features: { typeUrl: featuresType, value: new TextEncoder().encode(features) },
    }),
  });
  return toBinary(RuntimeInfoSchema, message);
}
