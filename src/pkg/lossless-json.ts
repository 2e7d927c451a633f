import { invalidArgument, messageOf } from "#pkg/errors.ts";

// -- TypeScript's library does not know these parts of the language yet
const json = JSON as unknown as {
  rawJSON(text: string): unknown;
  parse(
    text: string,
    reviver: (key: string, value: unknown, at: { source: string }) => unknown,
  ): unknown;
};

/**
 * Parses an object so that `formatLossless` writes its numbers as they were.
 *
 * Limits of resources are 64 bits wide (`18446744073709551615` is "none") and a JavaScript number
 * is not: integers beyond its range become a bigint. Throws `invalid-argument`, naming `what`, for
 * anything but an object.
 */
export function parseLossless(text: string, what: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = json.parse(text, (_key, parsed, { source }) =>
      typeof parsed === "number" && String(parsed) !== source ? exactly(source) : parsed,
    );
  } catch (error) {
    throw invalidArgument(`${what}: ${messageOf(error)}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalidArgument(`${what} is not an object`);
  }
  return value as Readonly<Record<string, unknown>>; // -- just seen to be an object
}

/** `JSON.stringify` that writes a bigint as the number it is. */
export function formatLossless(value: object, indent?: number): string {
  return JSON.stringify(
    value,
    (_key, part: unknown) => (typeof part === "bigint" ? json.rawJSON(String(part)) : part),
    indent,
  );
}

function exactly(source: string): unknown {
  return /^-?\d{1,64}$/.test(source) ? BigInt(source) : json.rawJSON(source);
}
