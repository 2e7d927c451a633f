import type { Any } from "#pkg/any.ts";
import { bytes, encodeMap, optionalText, type Row, stringMap } from "#pkg/sqlite/row.ts";

/** A blob with its type beside it; undefined where the type is null. */
export function decodeAny(row: Row, typeColumn: string, valueColumn: string): Any | undefined {
  const typeUrl = optionalText(row, typeColumn);
  return typeUrl === undefined ? undefined : { typeUrl, value: bytes(row, valueColumn) };
}

/** By key: the type url, a space, the value in base64. */
export function encodeAnyMap(map: Readonly<Record<string, Any>>): string {
  return encodeMap(
    Object.fromEntries(
      Object.entries(map).map(([key, { typeUrl, value }]) => [
        key,
        `${typeUrl} ${Buffer.from(value).toString("base64")}`,
      ]),
    ),
  );
}

export function decodeAnyMap(row: Row, column: string): Readonly<Record<string, Any>> {
  return Object.fromEntries(
    Object.entries(stringMap(row, column)).map(([key, text]) => {
      // Base64 has no space, a type url may.
      const space = text.lastIndexOf(" ");
      const value = new Uint8Array(Buffer.from(text.slice(space + 1), "base64"));
      return [key, { typeUrl: text.slice(0, space), value }];
    }),
  );
}
