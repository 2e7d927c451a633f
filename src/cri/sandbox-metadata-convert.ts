import { create, fromBinary } from "@bufbuild/protobuf";
import { PodSandboxConfigSchema } from "#api/cri/runtime/v1/config_pb.ts";
import { fromGoJson, type GoObject, toGoJson } from "#cri/go-json.ts";
import { podSandboxConfigOf } from "#cri/pod-sandbox-config-convert.ts";
import type { SandboxMetadata } from "#cri/sandbox-metadata.ts";
import type { Any } from "#pkg/any.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { formatLossless, parseLossless } from "#pkg/lossless-json.ts";

/** The extension of a sandbox's record in which its metadata is. */
export const metadataExtension = "metadata";

export const metadataTypeUrl = "github.com/containerd/cri/pkg/store/sandbox/Metadata";
const version = "v1";

/** Throws `invalid-argument` naming what is wrong. */
export function parseSandboxMetadata(any: Any): SandboxMetadata {
  if (any.typeUrl !== metadataTypeUrl) {
    throw invalidArgument(`sandbox metadata: unexpected type ${JSON.stringify(any.typeUrl)}`);
  }
  const what = "sandbox metadata";
  const outer = parseLossless(new TextDecoder().decode(any.value), what);
  if (outer["Version"] !== version) {
    throw invalidArgument(`${what}: unsupported version: ${JSON.stringify(outer["Version"])}`);
  }
  const fields = outer["Metadata"];
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
    throw invalidArgument(`${what}: Metadata is not an object`);
  }
  const read = textReader(fields as GoObject); // -- just seen to be an object
  const configJson = (fields as GoObject)["Config"] ?? undefined;
  const message =
    configJson === undefined
      ? create(PodSandboxConfigSchema)
      : fromGoJson(PodSandboxConfigSchema, configJson, "Config");
  return {
    id: read("ID"),
    name: read("Name"),
    config: podSandboxConfigOf(message),
    configJson: toGoJson(PodSandboxConfigSchema, message),
    netnsPath: read("NetNSPath"),
    ip: read("IP"),
    additionalIps: texts((fields as GoObject)["AdditionalIPs"]),
    runtimeHandler: read("RuntimeHandler"),
    cniResult: (fields as GoObject)["CNIResult"] ?? null,
    processLabel: read("ProcessLabel"),
  };
}

/**
 * Of a sandbox that is created with a `runtime.v1.PodSandboxConfig` alone. Throws
 * `invalid-argument`.
 */
export function metadataOfOptions(
  id: string,
  options: Any,
  { netnsPath }: { readonly netnsPath: string },
): SandboxMetadata {
  if (!options.typeUrl.endsWith(PodSandboxConfigSchema.typeName)) {
    const given = JSON.stringify(options.typeUrl);
    throw invalidArgument(`options: expected ${PodSandboxConfigSchema.typeName}, got ${given}`);
  }
  let message;
  try {
    message = fromBinary(PodSandboxConfigSchema, options.value);
  } catch (error) {
    throw invalidArgument(`options: ${messageOf(error)}`, { cause: error });
  }
  const { name, namespace, uid, attempt } = podSandboxConfigOf(message).metadata;
  return {
    id,
    name: [name, namespace, uid, attempt].join("_"),
    config: podSandboxConfigOf(message),
    configJson: toGoJson(PodSandboxConfigSchema, message),
    netnsPath,
    ip: "",
    additionalIps: [],
    runtimeHandler: "",
    cniResult: null,
    processLabel: "",
  };
}

/** As it is kept, and shown. */
export function metadataJson(metadata: SandboxMetadata): GoObject {
  return {
    Version: version,
    Metadata: {
      ID: metadata.id,
      Name: metadata.name,
      Config: metadata.configJson,
      NetNSPath: metadata.netnsPath,
      IP: metadata.ip,
      AdditionalIPs: metadata.additionalIps.length === 0 ? null : metadata.additionalIps,
      RuntimeHandler: metadata.runtimeHandler,
      CNIResult: metadata.cniResult,
      ProcessLabel: metadata.processLabel,
    },
  };
}

export function metadataAny(metadata: SandboxMetadata): Any {
  const value = Buffer.from(formatLossless(metadataJson(metadata)));
  return { typeUrl: metadataTypeUrl, value };
}

function textReader(fields: GoObject): (name: string) => string {
  return (name) => {
    const value = fields[name] ?? "";
    if (typeof value === "string") return value;
    throw invalidArgument(`sandbox metadata: ${name} is not a string`);
  };
}

function texts(value: unknown): readonly string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  throw invalidArgument("sandbox metadata: AdditionalIPs is not an array of strings");
}
