import * as v from "valibot";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf, type Digest, tryParseDigest } from "#pkg/digest.ts";
import { type CodedError, invalidArgument, messageOf } from "#pkg/errors.ts";
import { isIndex, isManifest } from "#pkg/media-types.ts";
import type { Platform } from "#pkg/platform.ts";

/** What a manifest or an index says of one of its parts. */
export interface ImageDescriptor extends Descriptor {
  readonly urls?: readonly string[] | undefined;
  readonly artifactType?: string | undefined;
  /** Of an index's entry. */
  readonly platform?: Platform | undefined;
  /** The content itself; only present where it is what size and digest say. */
  readonly data?: Uint8Array | undefined;
}

export interface Manifest {
  readonly config: ImageDescriptor;
  readonly layers: readonly ImageDescriptor[];
  readonly subject: ImageDescriptor | undefined;
}

export interface Index {
  readonly manifests: readonly ImageDescriptor[];
  readonly subject: ImageDescriptor | undefined;
}

/** As much of an image's configuration as unpacking and platform selection need. */
export interface ImageConfig {
  readonly platform: Platform;
  readonly rootfs: { readonly type: string; readonly diffIds: readonly Digest[] };
}

// Go writes and reads an absent slice or map as null.
const list = <S extends v.GenericSchema>(item: S) => v.optional(v.nullable(v.array(item)));
const texts = v.optional(v.nullable(v.record(v.string(), v.string())));
const text = v.optional(v.string(), "");

const platformSchema = v.object({
  architecture: text,
  os: text,
  "os.version": text,
  "os.features": list(v.string()),
  variant: text,
});

const digestSchema = v.pipe(
  v.string(),
  v.rawTransform<string, Digest>(({ dataset, addIssue, NEVER }) => {
    const digest = tryParseDigest(dataset.value);
    if (digest !== undefined) return digest;
    addIssue({ message: "no supported digest" });
    return NEVER;
  }),
);

const descriptorSchema = v.object({
  mediaType: text,
  digest: digestSchema,
  size: v.pipe(v.number(), v.safeInteger()),
  urls: list(v.string()),
  annotations: texts,
  artifactType: v.optional(v.string()),
  platform: v.optional(v.nullable(platformSchema)),
  data: v.optional(v.nullable(v.string())),
});

const manifestSchema = v.object({
  config: descriptorSchema,
  layers: list(descriptorSchema),
  subject: v.optional(v.nullable(descriptorSchema)),
});

const indexSchema = v.object({
  manifests: list(descriptorSchema),
  subject: v.optional(v.nullable(descriptorSchema)),
});

const configSchema = v.object({
  ...platformSchema.entries,
  rootfs: v.optional(v.nullable(v.object({ type: text, diff_ids: list(digestSchema) }))),
});

/**
 * Throws `invalid-argument` for what is no manifest, or claims or looks to be an index as well: what one client takes
 * for one thing and the next for another is how the two are made to see different images.
 */
export function parseManifest(bytes: Uint8Array, mediaType: string): Manifest {
  const document = parseDocument(bytes, mediaType);
  const { config, layers, subject } = parse(manifestSchema, document, "manifest");
  return {
    config: descriptorOf(config),
    layers: (layers ?? []).map(descriptorOf),
    subject: subject ? descriptorOf(subject) : undefined,
  };
}

/** The same for an index. */
export function parseIndex(bytes: Uint8Array, mediaType: string): Index {
  const document = parseDocument(bytes, mediaType);
  const { manifests, subject } = parse(indexSchema, document, "index");
  return {
    manifests: (manifests ?? []).map(descriptorOf),
    subject: subject ? descriptorOf(subject) : undefined,
  };
}

export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  const { rootfs, ...platform } = parse(configSchema, parseJson(bytes), "image config");
  return {
    platform: platformOf(platform),
    rootfs: { type: rootfs?.type ?? "", diffIds: rootfs?.diff_ids ?? [] },
  };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8").decode(bytes));
  } catch (error) {
    throw invalidArgument(`malformed JSON: ${messageOf(error)}`);
  }
}

function parseDocument(bytes: Uint8Array, mediaType: string): object {
  const document = parseJson(bytes);
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    throw invalidArgument("not a JSON object");
  }
  // Go's parser does not mind the case of keys, so neither may this check.
  const fields = new Map(
    Object.entries(document).map(([key, value]) => [key.toLowerCase(), value]),
  );
  const claimed = String(fields.get("mediatype") ?? "");
  const confusion = (expected: string, found: string): CodedError =>
    invalidArgument(`media-type: expected ${expected} but found ${found} (${mediaType})`);
  if (fields.has("fslayers")) throw invalidArgument("media-type: schema 1 not supported");
  if (isManifest(mediaType) && (fields.has("manifests") || isIndex(claimed))) {
    throw confusion("manifest", "index");
  }
  const looksLikeManifest = fields.has("config") || fields.has("layers") || isManifest(claimed);
  if (isIndex(mediaType) && looksLikeManifest) throw confusion("index", "manifest");
  return document;
}

function parse<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  what: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = issue.path?.map((item) => String(item.key)).join(".") ?? "";
  throw invalidArgument(`${what}: ${path === "" ? "" : `field ${path}: `}${issue.message}`);
}

function descriptorOf(given: v.InferOutput<typeof descriptorSchema>): ImageDescriptor {
  const { mediaType, digest, size, urls, annotations, artifactType, platform, data } = given;
  if (size < 0) {
    throw invalidArgument(`descriptor (${digest}) which reports negative content size (${size})`);
  }
  const embedded = data ? embeddedData(data, digest, size) : undefined;
  return {
    mediaType,
    digest,
    sizeBytes: size,
    annotations: annotations ?? {},
    ...(urls && urls.length > 0 && { urls }),
    ...(artifactType !== undefined && { artifactType }),
    ...(platform && { platform: platformOf(platform) }),
    ...(embedded && { data: embedded }),
  };
}

function embeddedData(data: string, digest: Digest, size: number): Uint8Array | undefined {
  const bytes = Buffer.from(data, "base64");
  return bytes.length === size && digestOf(bytes) === digest ? bytes : undefined;
}

function platformOf(given: v.InferOutput<typeof platformSchema>): Platform {
  const { architecture, os, variant } = given;
  const [osVersion, osFeatures] = [given["os.version"], given["os.features"]];
  return {
    os,
    architecture,
    ...(variant !== "" && { variant }),
    ...(osVersion !== "" && { osVersion }),
    ...(osFeatures && osFeatures.length > 0 && { osFeatures }),
  };
}

/** A descriptor as JSON documents have it, its keys in upstream's order. */
export function descriptorToJson(descriptor: ImageDescriptor): object {
  const { mediaType, digest, sizeBytes, urls, annotations, platform, artifactType } = descriptor;
  const names = Object.keys(annotations).sort();
  return {
    mediaType,
    digest,
    size: sizeBytes,
    ...(urls && { urls }),
    ...(names.length > 0 && {
      annotations: Object.fromEntries(names.map((name) => [name, annotations[name]])),
    }),
    ...(platform && { platform: platformToJson(platform) }),
    ...(artifactType !== undefined && { artifactType }),
  };
}

function platformToJson({ os, architecture, variant, osVersion, osFeatures }: Platform): object {
  return {
    architecture,
    os,
    ...(osVersion !== undefined && osVersion !== "" && { "os.version": osVersion }),
    ...(osFeatures && { "os.features": osFeatures }),
    ...(variant !== undefined && variant !== "" && { variant }),
  };
}
