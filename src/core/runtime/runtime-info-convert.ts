import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { RuntimeInfoSchema, RuntimeRequestSchema } from "#api/types/introspection_pb.ts";
import { MountCapabilitiesSchema } from "#api/types/mount_pb.ts";
import type { MountClaims } from "#core/mount/manager.ts";
import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import type { Any } from "#pkg/any.ts";
import { CodedError, messageOf, notImplemented } from "#pkg/errors.ts";

/** What is asked of a runtime. */
export interface RuntimeRequest {
  /** Its name, or the absolute path of its shim. */
  readonly runtimePath: string;
  readonly options: Any | undefined;
}

/** Throws `not-implemented` for options of another type, `invalid-argument` where they do not decode. */
export function runtimeRequestOf(options: Any): RuntimeRequest {
  if (nameOf(options) !== RuntimeRequestSchema.typeName) {
    throw notImplemented(`unknown request type ${options.typeUrl}`);
  }
  try {
    const { runtimePath, options: given } = fromBinary(RuntimeRequestSchema, options.value);
    return { runtimePath, options: given && { typeUrl: given.typeUrl, value: given.value } };
  } catch (cause) {
    throw new CodedError("invalid-argument", `runtime request: ${messageOf(cause)}`, { cause });
  }
}

export interface RuntimeInfo {
  /** The message as clients want it. */
  readonly any: Any;
  readonly annotations: Readonly<Record<string, string>>;
  /** What the OCI runtime says of itself; undefined where the shim does not tell. */
  readonly features: Any | undefined;
}

/** What a shim's `-info` printed, checked. */
export function runtimeInfoOf(output: Uint8Array, path: string): RuntimeInfo {
  try {
    const info = fromBinary(RuntimeInfoSchema, output);
    const value = toBinary(RuntimeInfoSchema, create(RuntimeInfoSchema, info));
    const { annotations, features: given } = info;
    const features = given && { typeUrl: given.typeUrl, value: given.value };
    return { any: { typeUrl: RuntimeInfoSchema.typeName, value }, annotations, features };
  } catch (cause) {
    const words = `failed to unmarshal stdout from [${path} -info] into RuntimeInfo`;
    throw new CodedError("unknown", `${words}: ${messageOf(cause)}`, { cause });
  }
}

/**
 * The mounts that a shim says, with its start, it makes itself. Undefined where it says nothing;
 * throws where it cannot be read.
 */
export function mountClaimsOf({ extensions }: BootstrapResult): MountClaims | undefined {
  const extension = extensions.find((any) => nameOf(any) === MountCapabilitiesSchema.typeName);
  if (!extension) return undefined;
  const { types, transforms } = fromBinary(MountCapabilitiesSchema, extension.value);
  return { types, transforms };
}

function nameOf({ typeUrl }: Any): string {
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}
