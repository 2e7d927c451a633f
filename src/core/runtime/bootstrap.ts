import type { Any } from "#pkg/any.ts";
import { invalidArgument } from "#pkg/errors.ts";

/** The newest task service this daemon speaks. */
export const newestShimVersion = 3;

/**
 * Where a shim serves and what it says of itself, as `start` printed it and as the bundle's
 * `bootstrap.json` keeps it.
 *
 * What this daemon does not know (capabilities, types of extensions) is kept as it came, for the
 * next one to read.
 */
export interface BootstrapResult {
  /** Of the task service: 2 or 3. */
  readonly version: number;
  /** `unix:///path`; other schemes as the shim has them. */
  readonly address: string;
  /** `ttrpc` or `grpc`. */
  readonly protocol: string;
  readonly capabilities: readonly number[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Unlike elsewhere the type URLs keep their `type.googleapis.com/`. */
  readonly extensions: readonly Any[];
}

/** What printed nothing but an address: a shim from before the task service had a version. */
export function legacyBootstrap(address: string): BootstrapResult {
  return {
    version: 2,
    address,
    protocol: "ttrpc",
    capabilities: [],
    metadata: {},
    extensions: [],
  };
}

/** The text of `bootstrap.json`: Go's JSON of the message, empty fields left out. */
export function formatBootstrap(result: BootstrapResult): string {
  const { version, address, protocol, capabilities, metadata } = result;
  const extensions = result.extensions.map(({ typeUrl, value }) => ({
    value: {
      ...(typeUrl !== "" && { type_url: typeUrl }),
      ...(value.length > 0 && { value: Buffer.from(value).toString("base64") }),
    },
  }));
  return JSON.stringify({
    ...(version !== 0 && { version }),
    ...(address !== "" && { address }),
    ...(protocol !== "" && { protocol }),
    ...(capabilities.length > 0 && { capabilities }),
    ...(Object.keys(metadata).length > 0 && { metadata }),
    ...(extensions.length > 0 && { extensions }),
  });
}

/**
 * Reads what `formatBootstrap` or a shim wrote.
 *
 * Undefined when it is no JSON object of version 2 or newer, and so may be a plain address. Throws
 * `invalid-argument` naming the field when it is one and a field is of the wrong type.
 */
export function tryParseBootstrapJson(text: string): BootstrapResult | undefined {
  const parsed = tryParseObject(text);
  if (!parsed) return undefined;
  const { version } = parsed;
  if (typeof version !== "number" || !Number.isInteger(version) || version < 2) return undefined;
  return {
    version,
    address: stringField(parsed, "address"),
    protocol: stringField(parsed, "protocol"),
    capabilities: listField(parsed, "capabilities").map((value) => {
      if (typeof value === "number") return value;
      throw badField("capabilities", value);
    }),
    metadata: parseMetadata(parsed["metadata"]),
    extensions: listField(parsed, "extensions").map(parseExtension),
  };
}

/** What a supervisor of ours prints instead of a result when it cannot be what was asked for. */
export function formatFailedStart(words: string): string {
  return `${JSON.stringify({ error: words })}\n`;
}

/** The words of `formatFailedStart`; undefined for anything else. */
export function tryParseFailedStart(text: string): string | undefined {
  const words = tryParseObject(text)?.["error"];
  return typeof words === "string" ? words : undefined;
}

type Fields = Readonly<Record<string, unknown>>;

function tryParseObject(text: string): Fields | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // -- a plain address, which is what the caller tries next
  }
  return isObject(value) ? value : undefined;
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function stringField(fields: Fields, name: string): string {
  const value = fields[name] ?? "";
  if (typeof value === "string") return value;
  throw badField(name, value);
}

function listField(fields: Fields, name: string): readonly unknown[] {
  const value = fields[name] ?? [];
  if (Array.isArray(value)) return value;
  throw badField(name, value);
}

function parseMetadata(value: unknown): Readonly<Record<string, string>> {
  if (value === undefined || value === null) return {};
  if (!isObject(value)) throw badField("metadata", value);
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => {
      if (typeof entry === "string") return [key, entry];
      throw badField(`metadata.${key}`, entry);
    }),
  );
}

function parseExtension(extension: unknown): Any {
  if (!isObject(extension)) throw badField("extensions", extension);
  const value = extension["value"] ?? {};
  if (!isObject(value)) throw badField("extensions.value", value);
  return {
    typeUrl: stringField(value, "type_url"),
    value: Buffer.from(stringField(value, "value"), "base64"),
  };
}

function badField(name: string, value: unknown): Error {
  const shown = JSON.stringify(value)?.slice(0, 100);
  return invalidArgument(`bootstrap result: field ${name} is ${shown}`);
}
