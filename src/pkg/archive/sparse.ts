import { cString, parseNumeric } from "#pkg/archive/tar-header.ts";
import { type ByteString, type Extent, invalidArchive, shown } from "#pkg/archive/tar-entry.ts";
import { type PaxRecord, parsePaxInteger } from "#pkg/archive/pax.ts";

/** Of a map as text or in extension blocks: enough for 40,000 extents, and Go's bound too. */
export const sparseMapBytesMax = 1 << 20;

const extentsPerHeader = 4;
const extentsPerExtension = 21;
const extentBytes = 24;

/** The map that begins in an old GNU sparse header (type `S`). */
export function parseGnuSparseHeader(block: Buffer): {
  extents: Extent[];
  extended: boolean;
  sizeBytes: number;
} {
  return {
    extents: readExtents(block, 386, extentsPerHeader),
    extended: block[482] !== 0,
    sizeBytes: parseNumeric(block, 483, 12, "realsize"),
  };
}

/** One more block of it. */
export function parseGnuSparseExtension(block: Buffer): { extents: Extent[]; extended: boolean } {
  return { extents: readExtents(block, 0, extentsPerExtension), extended: block[504] !== 0 };
}

function readExtents(block: Buffer, start: number, count: number): Extent[] {
  const extents: Extent[] = [];
  for (let i = 0; i < count; i++) {
    const at = start + i * extentBytes;
    // The first empty one ends the list.
    if (block[at] === 0 || cString(block, at, 12) === "") break;
    const offset = parseNumeric(block, at, 12, "sparse offset");
    extents.push({ offset, lengthBytes: parseNumeric(block, at + 12, 12, "sparse length") });
  }
  return extents;
}

/** What extended headers say of a sparse file; undefined when it is none. */
export interface PaxSparse {
  readonly name: ByteString | undefined;
  readonly sizeBytes: number | undefined;
  /** Undefined when the map stands before the data (version 1.0). */
  readonly extents: Extent[] | undefined;
}

export function parsePaxSparse(records: readonly PaxRecord[]): PaxSparse | undefined {
  const last = new Map(records.map((record) => [record.key, record.value]));
  const integer = (key: string): number | undefined => {
    const value = last.get(key);
    return value === undefined || value.length === 0 ? undefined : parsePaxInteger(key, value);
  };
  const major = integer("GNU.sparse.major");
  const minor = integer("GNU.sparse.minor");
  const isVersion1 = major === 1 && minor === 0;
  const isVersion0 =
    (major ?? 0) === 0 && (last.has("GNU.sparse.map") || last.has("GNU.sparse.numblocks"));
  if (!isVersion1 && !isVersion0) {
    if (major === undefined) return undefined;
    throw invalidArchive(`sparse format ${major}.${minor ?? 0} is unknown`);
  }
  return {
    name: last.get("GNU.sparse.name")?.toString("latin1"),
    sizeBytes: integer("GNU.sparse.realsize") ?? integer("GNU.sparse.size"),
    extents: isVersion1 ? undefined : extentsOf(records, last.get("GNU.sparse.map")),
  };
}

function extentsOf(records: readonly PaxRecord[], map: Buffer | undefined): Extent[] {
  // Version 0.1 has one record with commas, 0.0 repeats two keys.
  const numbers =
    map === undefined
      ? records
          .filter((r) => r.key === "GNU.sparse.offset" || r.key === "GNU.sparse.numbytes")
          .map((r) => parsePaxInteger(r.key, r.value))
      : map.length === 0
        ? []
        : map.toString("latin1").split(",").map(parseDecimal);
  return pairs(numbers);
}

function parseDecimal(text: string): number {
  const number = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) {
    throw invalidArchive(`sparse map holds ${shown(text)}, not a number in range`);
  }
  return number;
}

function pairs(numbers: readonly number[]): Extent[] {
  if (numbers.length % 2 !== 0) throw invalidArchive("sparse map ends in the middle of a pair");
  const extents: Extent[] = [];
  for (let i = 0; i < numbers.length; i += 2) {
    extents.push({ offset: numbers[i] ?? 0, lengthBytes: numbers[i + 1] ?? 0 });
  }
  return extents;
}

/**
 * Reads the map of version 1.0, which stands in whole blocks before the data: lines of decimal
 * numbers, first how many extents there are.
 */
export class SparseMapReader {
  #text = "";
  #numbers: number[] = [];
  #bytes = 0;

  /** Takes a block; true once the map is complete. */
  push(block: Buffer): boolean {
    this.#bytes += block.length;
    if (this.#bytes > sparseMapBytesMax) {
      throw invalidArchive(`sparse map is longer than ${sparseMapBytesMax} bytes`);
    }
    const lines = (this.#text + block.toString("latin1")).split("\n");
    this.#text = lines.pop() ?? "";
    for (const line of lines) {
      if (this.#complete()) break;
      this.#numbers.push(parseDecimal(line));
    }
    if (this.#complete()) return true;
    if (this.#text.length > 32) throw invalidArchive("sparse map has no lines");
    return false;
  }

  extents(): Extent[] {
    return pairs(this.#numbers.slice(1));
  }

  #complete(): boolean {
    const count = this.#numbers[0];
    return count !== undefined && this.#numbers.length >= 1 + 2 * count;
  }
}

/**
 * Throws `invalid-argument` unless extents are in order, apart, inside the file, and as long as the
 * data stored.
 */
export function assertSparse(
  extents: readonly Extent[],
  sizeBytes: number,
  storedBytes: number,
): void {
  let end = 0;
  let sum = 0;
  for (const { offset, lengthBytes } of extents) {
    if (offset < end || lengthBytes < 0 || offset + lengthBytes > sizeBytes) {
      throw invalidArchive(
        `sparse extent ${offset}+${lengthBytes} of a file of ${sizeBytes} bytes`,
      );
    }
    end = offset + lengthBytes;
    sum += lengthBytes;
  }
  if (sum !== storedBytes) {
    throw invalidArchive(`sparse map names ${sum} bytes, ${storedBytes} are stored`);
  }
}
