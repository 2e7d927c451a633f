import { CodedError } from "#pkg/errors.ts";

/** A row as SQLite gives it; integers are bigints. */
export type Row = Readonly<Record<string, unknown>>;

function corrupt(row: Row, column: string, expected: string): CodedError {
  return new CodedError(
    "data-loss",
    `database column ${column}: expected ${expected}, found ${typeof row[column]}`,
  );
}

export function text(row: Row, column: string): string {
  const value = row[column];
  if (typeof value !== "string") throw corrupt(row, column, "text");
  return value;
}

export function optionalText(row: Row, column: string): string | undefined {
  return row[column] === null ? undefined : text(row, column);
}

export function bigint(row: Row, column: string): bigint {
  const value = row[column];
  if (typeof value !== "bigint") throw corrupt(row, column, "an integer");
  return value;
}

/** An integer within the range a number holds exactly. */
export function number(row: Row, column: string): number {
  const value = Number(bigint(row, column));
  if (!Number.isSafeInteger(value)) throw corrupt(row, column, "a safe integer");
  return value;
}

export function bytes(row: Row, column: string): Uint8Array {
  const value = row[column];
  if (!(value instanceof Uint8Array)) throw corrupt(row, column, "a blob");
  return value;
}

/** A JSON object of strings: labels, annotations. */
export function stringMap(row: Row, column: string): Readonly<Record<string, string>> {
  const encoded = text(row, column);
  // Most of what is listed has none.
  if (encoded === "{}") return {};
  const value: unknown = JSON.parse(encoded);
  if (!isStringMap(value)) throw corrupt(row, column, "an object of strings");
  return value;
}

function isStringMap(value: unknown): value is Record<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((v) => typeof v === "string");
}

/** Keys in order, so that equal maps are equal texts. */
export function encodeMap(map: Readonly<Record<string, string>>): string {
  const entries = Object.entries(map).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(Object.fromEntries(entries));
}
