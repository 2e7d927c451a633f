import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Any as AnyMessage } from "@bufbuild/protobuf/wkt";
import {
  BootstrapParamsSchema,
  BootstrapResultSchema,
  LogLevel,
} from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { DeleteResponseSchema } from "#api/runtime/task/v3/shim_pb.ts";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { fromOptions, toTimestamp, typeNameOf } from "#shim/convert.ts";
import { defaultOptions, type RuncOptions } from "#shim/options.ts";
import type { Exit } from "#shim/process-state.ts";

/** What a daemon says when it starts a shim. */
export interface StartRequest {
  /** `params` from 2.3 on; before, only options came, and the answer is the bare address. */
  readonly dialect: "params" | "address";
  readonly isDebug: boolean;
  readonly grpcAddress: string | undefined;
  readonly ttrpcAddress: string | undefined;
  readonly socketDir: string | undefined;
  readonly options: RuncOptions;
}

/**
 * Reads standard input of `start`.
 *
 * Parameters count as such when they name this task as the flags do; anything else comes from a
 * daemon that does not know them yet.
 */
export function parseStartInput(
  input: Uint8Array,
  task: { readonly id: string; readonly namespace: string },
): StartRequest {
  const old: StartRequest = {
    dialect: "address",
    isDebug: false,
    grpcAddress: undefined,
    ttrpcAddress: undefined,
    socketDir: undefined,
    options: defaultOptions,
  };
  if (input.length === 0) return old;
  let params: ReturnType<typeof decode>;
  try {
    params = decode(input);
  } catch {
    return old; // not ours to read: an older daemon's options
  }
  if (params.instanceId !== task.id || params.namespace !== task.namespace) return old;
  const values = params.extensions.map((extension) => extension.value);
  return {
    dialect: "params",
    isDebug: params.logLevel <= LogLevel.DEBUG,
    grpcAddress: orUndefined(params.containerdGrpcAddress),
    ttrpcAddress: orUndefined(params.containerdTtrpcAddress),
    socketDir: orUndefined(params.socketDir),
    options: fromOptions(values.find((value) => isRuncOptions(value))),
  };
}

export function formatStartResult(address: string): Uint8Array {
  const result = create(BootstrapResultSchema, { version: 3, address, protocol: "ttrpc" });
  return toBinary(BootstrapResultSchema, result);
}

export function formatDeleteResponse(exit: Exit): Uint8Array {
  const response = create(DeleteResponseSchema, {
    pid: exit.pid,
    exitStatus: exit.status,
    exitedAt: toTimestamp(exit.at),
  });
  return toBinary(DeleteResponseSchema, response);
}

function decode(
  input: Uint8Array,
): import("@bufbuild/protobuf").MessageShape<typeof BootstrapParamsSchema> {
  return fromBinary(BootstrapParamsSchema, input);
}

function isRuncOptions(any: AnyMessage | undefined): boolean {
  return any !== undefined && typeNameOf(any) === OptionsSchema.typeName;
}

function orUndefined(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
