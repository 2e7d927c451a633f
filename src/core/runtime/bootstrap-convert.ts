import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import {
  BootstrapParamsSchema,
  BootstrapResultSchema,
  LogLevel as LogLevelMessage,
} from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { DeleteResponseSchema } from "#api/runtime/task/v3/shim_pb.ts";
import {
  type BootstrapResult,
  legacyBootstrap,
  newestShimVersion,
  tryParseBootstrapJson,
} from "#core/runtime/bootstrap.ts";
import type { ProcessExit } from "#core/runtime/runtime.ts";
import type { Any } from "#pkg/any.ts";
import { CodedError, messageOf, notImplemented } from "#pkg/errors.ts";
import type { LogLevel } from "#pkg/log.ts";
import { nowNanos, timestampToNanos } from "#pkg/time.ts";

/** What a shim's `start` is told on its standard input. */
export interface BootstrapParams {
  readonly id: string;
  readonly namespace: string;
  readonly logLevel: LogLevel;
  readonly version: string;
  readonly ttrpcAddress: string;
  readonly grpcAddress: string;
  readonly binary: string;
  readonly socketDir: string;
  readonly options: Any | undefined;
}

const levels = {
  trace: LogLevelMessage.TRACE,
  debug: LogLevelMessage.DEBUG,
  info: LogLevelMessage.INFO,
  warning: LogLevelMessage.WARN,
  error: LogLevelMessage.ERROR,
  fatal: LogLevelMessage.FATAL,
  panic: LogLevelMessage.PANIC,
} as const satisfies Record<LogLevel, LogLevelMessage>;

export function encodeBootstrapParams(params: BootstrapParams): Uint8Array {
  return toBinary(
    BootstrapParamsSchema,
    create(BootstrapParamsSchema, {
      instanceId: params.id,
      namespace: params.namespace,
      logLevel: levels[params.logLevel],
      containerdVersion: params.version,
      containerdTtrpcAddress: params.ttrpcAddress,
      containerdGrpcAddress: params.grpcAddress,
      containerdBinary: params.binary,
      extensions: params.options ? [{ value: anyMessage(params.options) }] : [],
      ...(params.socketDir !== "" && { socketDir: params.socketDir }),
    }),
  );
}

/** The runtime options alone, as shims from before the bootstrap message and `-info` read them. */
export function encodeRuntimeOptions(options: Any): Uint8Array {
  return toBinary(AnySchema, create(AnySchema, anyMessage(options)));
}

/**
 * Reads what `start` printed: the message, else JSON, else a plain address.
 *
 * Throws `not-implemented` for a version newer than this daemon's, `invalid-argument` naming a
 * field of the wrong type.
 */
export function parseStartOutput(output: Uint8Array): BootstrapResult {
  const result = tryDecode(output) ?? parseText(Buffer.from(output).toString("utf8").trim());
  if (result.version > newestShimVersion) {
    throw notImplemented(`unsupported shim version (${result.version})`);
  }
  return result;
}

function parseText(text: string): BootstrapResult {
  return tryParseBootstrapJson(text) ?? legacyBootstrap(text);
}

function tryDecode(output: Uint8Array): BootstrapResult | undefined {
  try {
    const message = fromBinary(BootstrapResultSchema, output);
    return {
      version: message.version,
      address: message.address,
      protocol: message.protocol,
      capabilities: message.capabilities,
      metadata: message.metadata,
      extensions: message.extensions.map(({ value }) => ({
        typeUrl: value?.typeUrl ?? "",
        value: value?.value ?? new Uint8Array(),
      })),
    };
  } catch {
    return undefined; // -- not the message: an older shim, whose text the caller tries next
  }
}

/** Reads what `delete` printed. Throws `internal` when it is no DeleteResponse. */
export function parseDeleteOutput(output: Uint8Array): ProcessExit {
  try {
    const { pid, exitStatus, exitedAt } = fromBinary(DeleteResponseSchema, output);
    return { pid, exitStatus, exitedAt: exitedAt ? timestampToNanos(exitedAt) : nowNanos() };
  } catch (cause) {
    throw new CodedError("internal", `shim delete response: ${messageOf(cause)}`, { cause });
  }
}

function anyMessage({ typeUrl, value }: Any): { typeUrl: string; value: Uint8Array } {
  return { typeUrl, value };
}
