import type { DescField, DescMessage, MessageShape } from "@bufbuild/protobuf";
import { create, ScalarType } from "@bufbuild/protobuf";
import { invalidArgument } from "#pkg/errors.ts";

/** A JSON object; integers beyond a number's range are bigints, as `parseLossless` gives them. */
export type GoObject = Readonly<Record<string, unknown>>;

// -- fields are reached by their descriptors, whose names are those of the message's own
type Fields = Record<string, unknown>;

/**
 * A message as Go's `encoding/json` writes its struct, the form in which CRI keeps configurations on
 * disk and shows them: fields by their names in the description, empty ones left out, enums and
 * 64-bit integers as numbers. It is not protobuf's own JSON.
 *
 * `formatLossless` makes text of it.
 */
export function toGoJson<D extends DescMessage>(desc: D, message: MessageShape<D>): GoObject {
  const fields = message as unknown as Fields;
  const entries = desc.fields.flatMap((field): [string, unknown][] => {
    const value = fields[field.localName];
    return isEmpty(field, value) ? [] : [[field.name, fieldToJson(field, value)]];
  });
  return Object.fromEntries(entries);
}

function isEmpty(field: DescField, value: unknown): boolean {
  switch (field.fieldKind) {
    case "list":
      return (value as readonly unknown[]).length === 0;
    case "map":
      return Object.keys(value as object).length === 0;
    case "message":
      return value === undefined;
    case "enum":
      return value === 0;
    case "scalar":
      if (value instanceof Uint8Array) return value.length === 0;
      return value === "" || value === false || value === 0 || value === 0n;
  }
}

function fieldToJson(field: DescField, value: unknown): unknown {
  switch (field.fieldKind) {
    case "list":
      return (value as readonly unknown[]).map((item) => toJson(field.message, item));
    case "map":
      return Object.fromEntries(
        Object.entries(value as object).map(([key, item]) => [key, toJson(field.message, item)]),
      );
    default:
      return toJson(field.message, value);
  }
}

function toJson(message: DescMessage | undefined, value: unknown): unknown {
  if (message) return toGoJson(message, value as MessageShape<DescMessage>);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  return value;
}

/**
 * The message of such an object. Keys that the message has not are passed over, null is "not there".
 *
 * Throws `invalid-argument` naming the field whose value is of another kind or out of range.
 */
export function fromGoJson<D extends DescMessage>(
  desc: D,
  value: unknown,
  path = "",
): MessageShape<D> {
  if (!isObject(value)) throw wrongKind(path, "an object", value);
  const entries = desc.fields.flatMap((field): [string, unknown][] => {
    const given = Object.hasOwn(value, field.name) ? value[field.name] : undefined;
    if (given === undefined || given === null) return [];
    const at = path === "" ? field.name : `${path}.${field.name}`;
    return [[field.localName, fieldFromJson(field, given, at)]];
  });
  return create(desc, Object.fromEntries(entries) as Parameters<typeof create<D>>[1]);
}

function fieldFromJson(field: DescField, value: unknown, path: string): unknown {
  switch (field.fieldKind) {
    case "list":
      if (!Array.isArray(value)) throw wrongKind(path, "an array", value);
      return value.map((item, i) => fromJson(field, item, `${path}.${i}`));
    case "map":
      if (!isObject(value)) throw wrongKind(path, "an object", value);
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, fromJson(field, item, `${path}.${key}`)]),
      );
    default:
      return fromJson(field, value, path);
  }
}

function fromJson(field: DescField, value: unknown, path: string): unknown {
  if (field.message) return fromGoJson(field.message, value, path);
  if (field.enum) return integer(value, path, int32);
  return scalar(field.scalar ?? ScalarType.STRING, value, path);
}

interface Range {
  readonly min: bigint;
  readonly max: bigint;
}

const int32: Range = { min: -(2n ** 31n), max: 2n ** 31n - 1n };
const uint32: Range = { min: 0n, max: 2n ** 32n - 1n };
const int64: Range = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const uint64: Range = { min: 0n, max: 2n ** 64n - 1n };

function scalar(type: ScalarType, value: unknown, path: string): unknown {
  switch (type) {
    case ScalarType.STRING:
      if (typeof value !== "string") throw wrongKind(path, "a string", value);
      return value;
    case ScalarType.BOOL:
      if (typeof value !== "boolean") throw wrongKind(path, "a boolean", value);
      return value;
    case ScalarType.BYTES:
      if (typeof value !== "string") throw wrongKind(path, "a base64 string", value);
      return new Uint8Array(Buffer.from(value, "base64"));
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      if (typeof value !== "number") throw wrongKind(path, "a number", value);
      return value;
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return integer(value, path, int32);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return integer(value, path, uint32);
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return bigInteger(value, path, int64);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return bigInteger(value, path, uint64);
  }
}

function integer(value: unknown, path: string, range: Range): number {
  return Number(bigInteger(value, path, range));
}

function bigInteger(value: unknown, path: string, { min, max }: Range): bigint {
  const isInteger = typeof value === "bigint" || Number.isInteger(value);
  // A number beyond the exact ones is what its digits say: so it was read.
  const digits = String(value);
  if (!isInteger || !/^-?\d+$/.test(digits)) throw wrongKind(path, "an integer", value);
  const whole = BigInt(digits);
  if (whole >= min && whole <= max) return whole;
  throw wrongKind(path, `an integer from ${min} to ${max}`, value);
}

function isObject(value: unknown): value is GoObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrongKind(path: string, expected: string, value: unknown): Error {
  const what = path === "" ? "value" : `field ${path}`;
  const given =
    typeof value === "string" || typeof value === "bigint"
      ? JSON.stringify(String(value).slice(0, 80))
      : kindOf(value);
  return invalidArgument(`${what}: expected ${expected}, got ${given}`);
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : JSON.stringify(value);
}
