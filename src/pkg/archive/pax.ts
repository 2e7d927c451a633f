import { type ByteString, invalidArchive, shown } from "#pkg/archive/tar-entry.ts";

export interface PaxRecord {
  readonly key: ByteString;
  readonly value: Buffer;
}

/** Records as in the file, in order: sparse maps repeat keys. Throws `invalid-argument`. */
export function parsePaxRecords(data: Buffer): PaxRecord[] {
  const records: PaxRecord[] = [];
  let offset = 0;
  while (offset < data.length) {
    const space = data.indexOf(0x20, offset);
    const digits = space < 0 ? "" : data.toString("latin1", offset, space);
    const lengthBytes = /^[0-9]{1,9}$/.test(digits) ? Number(digits) : 0;
    const end = offset + lengthBytes;
    if (lengthBytes < digits.length + 3 || end > data.length || data[end - 1] !== 0x0a) {
      throw invalidArchive(`extended header record at byte ${offset} is malformed`);
    }
    const equals = data.indexOf(0x3d, space + 1);
    if (equals <= space + 1 || equals >= end) {
      throw invalidArchive(`extended header record at byte ${offset} has no key`);
    }
    const key = data.toString("latin1", space + 1, equals);
    const value = data.subarray(equals + 1, end - 1);
    assertRecord(key, value);
    records.push({ key, value });
    offset = end;
  }
  return records;
}

const textKeys = new Set(["path", "linkpath", "uname", "gname", "GNU.sparse.name"]);

function assertRecord(key: ByteString, value: Buffer): void {
  if (key.includes("\0") || (textKeys.has(key) && value.includes(0))) {
    throw invalidArchive(`extended header record ${shown(key)} holds a NUL`);
  }
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts itself. */
export function formatPaxRecord(key: ByteString, value: Buffer | ByteString): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value, "latin1") : value;
  const keyBytes = Buffer.from(` ${key}=`, "latin1");
  const restBytes = keyBytes.length + bytes.length + 1;
  let lengthBytes = restBytes + String(restBytes).length;
  // Counting its own digits may take one digit more.
  if (restBytes + String(lengthBytes).length !== lengthBytes) lengthBytes += 1;
  return Buffer.concat([Buffer.from(String(lengthBytes)), keyBytes, bytes, Buffer.from("\n")]);
}

/** An integer in decimal; throws `invalid-argument` for anything else or beyond 2^53. */
export function parsePaxInteger(key: ByteString, value: Buffer): number {
  const text = value.toString("latin1");
  const number = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) {
    throw invalidArchive(`extended header ${shown(key)} ${shown(text)} is not an integer in range`);
  }
  return number;
}

/** Seconds with a fraction, as nanoseconds; digits below a nanosecond are cut off. */
export function parsePaxTime(key: ByteString, value: Buffer): bigint {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value.toString("latin1"));
  if (!match) {
    throw invalidArchive(
      `extended header ${shown(key)} ${shown(value.toString("latin1"))} is no time`,
    );
  }
  const fraction = (match[3] ?? "").padEnd(9, "0").slice(0, 9);
  const nanos = BigInt(match[2] ?? "0") * 1_000_000_000n + BigInt(fraction);
  return match[1] === "-" ? -nanos : nanos;
}
