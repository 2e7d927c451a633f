import { type ByteString, invalidArchive } from "#pkg/archive/tar-entry.ts";

export const blockBytes = 512;

export type TarFormat = "v7" | "ustar" | "star" | "gnu";

/** A header block as it stands, before any extension. */
export interface RawHeader {
  readonly format: TarFormat;
  readonly typeflag: string;
  readonly name: ByteString;
  readonly linkName: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes that follow in the archive. */
  readonly sizeBytes: number;
  readonly mtimeSeconds: number;
  readonly atimeSeconds: number | undefined;
  readonly major: number;
  readonly minor: number;
}

const zeroBlock = Buffer.alloc(blockBytes);

export function isZeroBlock(block: Buffer): boolean {
  return block[0] === 0 && block.equals(zeroBlock);
}

/** Throws `invalid-argument` when checksum or a number is not as the formats have it. */
export function parseHeaderBlock(block: Buffer): RawHeader {
  assertChecksum(block);
  const format = formatOf(block);
  const sizeBytes = parseNumeric(block, 124, 12, "size");
  if (sizeBytes < 0) throw invalidArchive(`negative entry size ${sizeBytes}`);
  const prefix =
    format === "ustar"
      ? cString(block, 345, 155)
      : format === "star"
        ? cString(block, 345, 131)
        : "";
  const name = cString(block, 0, 100);
  const hasDevice = format !== "v7";
  return {
    format,
    typeflag: String.fromCharCode(block[156] ?? 0),
    name: prefix === "" ? name : `${prefix}/${name}`,
    linkName: cString(block, 157, 100),
    mode: parseNumeric(block, 100, 8, "mode"),
    uid: parseNumeric(block, 108, 8, "uid"),
    gid: parseNumeric(block, 116, 8, "gid"),
    sizeBytes,
    mtimeSeconds: parseNumeric(block, 136, 12, "mtime"),
    atimeSeconds: atimeOf(block, format),
    major: hasDevice ? parseNumeric(block, 329, 8, "devmajor") : 0,
    minor: hasDevice ? parseNumeric(block, 337, 8, "devminor") : 0,
  };
}

/** A NUL-terminated field, or one that is full. */
export function cString(block: Buffer, offset: number, lengthBytes: number): ByteString {
  const end = block.indexOf(0, offset);
  const stop = end < 0 || end > offset + lengthBytes ? offset + lengthBytes : end;
  return block.toString("latin1", offset, stop);
}

/**
 * A number in octal digits, or in base 256 when the first bit is set (two's complement then, so it
 * may be negative). An empty field is 0.
 */
export function parseNumeric(
  block: Buffer,
  offset: number,
  lengthBytes: number,
  field: string,
): number {
  const first = block[offset] ?? 0;
  if ((first & 0x80) !== 0) return parseBase256(block, offset, lengthBytes, field);
  let value = 0;
  let i = offset;
  const end = offset + lengthBytes;
  while (i < end && isPadding(block[i])) i++;
  for (; i < end; i++) {
    const byte = block[i] ?? 0;
    if (byte < 0x30 || byte > 0x37) break;
    value = value * 8 + (byte - 0x30);
  }
  for (; i < end; i++) {
    if (!isPadding(block[i])) {
      const text = block.toString("latin1", offset, end);
      throw invalidArchive(`header field ${field} ${JSON.stringify(text)} is not a number`);
    }
  }
  return value;
}

function isPadding(byte: number | undefined): boolean {
  return byte === 0 || byte === 0x20;
}

function parseBase256(block: Buffer, offset: number, lengthBytes: number, field: string): number {
  // Bit 7 only marks the form; bit 6 is the sign.
  const first = (block[offset] ?? 0) & 0x7f;
  const negative = (first & 0x40) !== 0;
  let value = BigInt(negative ? first - 0x80 : first);
  for (let i = 1; i < lengthBytes; i++) value = value * 256n + BigInt(block[offset + i] ?? 0);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw invalidArchive(`header field ${field} ${value} is out of range`);
  }
  return number;
}

function assertChecksum(block: Buffer): void {
  // Its own field counts as spaces.
  let unsigned = 8 * 0x20;
  for (let i = 0; i < 148; i++) unsigned += block[i] ?? 0;
  for (let i = 156; i < blockBytes; i++) unsigned += block[i] ?? 0;
  const wanted = parseNumeric(block, 148, 8, "checksum");
  // Some old archivers summed signed characters.
  if (wanted !== unsigned && wanted !== unsigned - 256 * countHighBytes(block)) {
    throw invalidArchive(`header checksum ${wanted}, expected ${unsigned}`);
  }
}

function countHighBytes(block: Buffer): number {
  let count = 0;
  for (let i = 0; i < blockBytes; i++) {
    if ((i < 148 || i >= 156) && (block[i] ?? 0) > 127) count++;
  }
  return count;
}

function formatOf(block: Buffer): TarFormat {
  const magic = block.toString("latin1", 257, 265);
  if (magic === "ustar  \0") return "gnu";
  if (!magic.startsWith("ustar\0")) return "v7";
  return block.toString("latin1", 508, 512) === "tar\0" ? "star" : "ustar";
}

function atimeOf(block: Buffer, format: TarFormat): number | undefined {
  const offset = format === "gnu" ? 345 : format === "star" ? 476 : undefined;
  if (offset === undefined || block[offset] === 0) return undefined;
  try {
    return parseNumeric(block, offset, 12, "atime");
  } catch {
    // Archivers of old wrote other things there; an access time is not worth refusing a layer for.
    return undefined;
  }
}
