import type { HeaderFields } from "#core/remotes/http-client.ts";
import { CodedError } from "#pkg/errors.ts";

const nameForm = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const valueForm = /^[\t\x20-\x7e\x80-\xff]*$/;
/** What a connection is made of is not for configuration to say. */
const reserved: readonly string[] = [
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "transfer-encoding",
  "upgrade",
];

/**
 * Header fields as people configure them: names to a value or a list of values.
 *
 * Throws `invalid-argument` naming `what` and the field, and not its value, which may be a secret.
 */
export function parseHeaderTable(table: unknown, what: string): HeaderFields {
  if (typeof table !== "object" || table === null || Array.isArray(table)) {
    throw invalid(`${what}: a table of header fields is expected`);
  }
  const fields = new Map<string, readonly string[]>();
  for (const [name, value] of Object.entries(table)) {
    const key = `${what}.${JSON.stringify(name)}`;
    if (!nameForm.test(name)) throw invalid(`${key}: no name of a header field`);
    const lower = name.toLowerCase();
    if (reserved.includes(lower)) throw invalid(`${key}: cannot be configured`);
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    const parsed = values.map((one) => parseValue(one, key));
    fields.set(lower, [...(fields.get(lower) ?? []), ...parsed]);
  }
  return Object.fromEntries(fields);
}

function parseValue(value: unknown, key: string): string {
  if (typeof value !== "string") throw invalid(`${key}: a string or a list of them is expected`);
  if (!valueForm.test(value)) throw invalid(`${key}: characters that a header cannot have`);
  return value;
}

function invalid(message: string): CodedError {
  return new CodedError("invalid-argument", message);
}
