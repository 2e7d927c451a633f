import { staticTable } from "./hpack-tables.ts";
import { decodeHuffman } from "./huffman.ts";

/** A header field; its characters are octets. */
export interface HeaderField {
  readonly name: string;
  readonly value: string;
  /** Set when no hop may put the field into a table: it is a secret. */
  readonly neverIndexed: boolean;
}

/** What a table may hold unless the receiver's settings say otherwise; ours do not. */
const TABLE_BYTES_MAX = 4096;
const ENTRY_OVERHEAD_BYTES = 32;
/** All fields of one block together, decoded. */
export const HEADER_LIST_BYTES_MAX = 1 << 20;

/**
 * Decodes the header blocks of one connection, in their order.
 *
 * Each block may change the table that the next one refers to. Throws on anything malformed; the connection is of no
 * use then.
 */
export class HpackDecoder {
  #entries: HeaderField[] = [];
  #tableBytes = 0;
  #tableBytesMax = TABLE_BYTES_MAX;

  decode(block: Uint8Array): HeaderField[] {
    const cursor = new Cursor(block);
    const fields: HeaderField[] = [];
    let listBytes = 0;
    while (!cursor.isAtEnd) {
      const field = this.#decodeNext(cursor);
      if (!field) continue;
      listBytes += sizeOf(field);
      if (listBytes > HEADER_LIST_BYTES_MAX) throw new Error("header list too long");
      fields.push(field);
    }
    return fields;
  }

  #decodeNext(cursor: Cursor): HeaderField | undefined {
    const first = cursor.peek();
    if (first & 0x80) return { ...this.#lookUp(cursor.integer(7)), neverIndexed: false };
    if (first & 0x40) {
      const field = this.#literal(cursor, 6, false);
      this.#insert(field);
      return field;
    }
    if (first & 0x20) {
      this.#resize(cursor.integer(5));
      return undefined;
    }
    return this.#literal(cursor, 4, (first & 0x10) !== 0);
  }

  #literal(cursor: Cursor, prefixBits: number, neverIndexed: boolean): HeaderField {
    const index = cursor.integer(prefixBits);
    const name = index === 0 ? cursor.string() : this.#lookUp(index).name;
    return { name, value: cursor.string(), neverIndexed };
  }

  #lookUp(index: number): { name: string; value: string } {
    const known = staticTable[index - 1];
    if (known) return { name: known[0], value: known[1] };
    const entry = this.#entries[index - 1 - staticTable.length];
    if (!entry) throw new Error(`no header field at index ${index}`);
    return entry;
  }

  #insert(field: HeaderField): void {
    this.#entries.unshift(field);
    this.#tableBytes += sizeOf(field);
    this.#evict();
  }

  #resize(bytes: number): void {
    if (bytes > TABLE_BYTES_MAX) throw new Error(`header table of ${bytes} bytes`);
    this.#tableBytesMax = bytes;
    this.#evict();
  }

  #evict(): void {
    while (this.#tableBytes > this.#tableBytesMax) {
      const oldest = this.#entries.pop();
      if (!oldest) return;
      this.#tableBytes -= sizeOf(oldest);
    }
  }
}

/** Writes fields as literals that enter no table, so that it needs none of its own. */
export function encodeLiterals(fields: readonly HeaderField[]): Buffer {
  const parts: Buffer[] = [];
  for (const { name, value, neverIndexed } of fields) {
    parts.push(Buffer.of(neverIndexed ? 0x10 : 0x00));
    for (const text of [name, value]) {
      const octets = Buffer.from(text, "latin1");
      parts.push(encodeInteger(octets.length), octets);
    }
  }
  return Buffer.concat(parts);
}

/** An integer with a prefix of seven bits. */
function encodeInteger(value: number): Buffer {
  if (value < 0x7f) return Buffer.of(value);
  const bytes = [0x7f];
  let rest = value - 0x7f;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function sizeOf({ name, value }: HeaderField): number {
  return name.length + value.length + ENTRY_OVERHEAD_BYTES;
}

class Cursor {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  peek(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new Error("header block ends early");
    return byte;
  }

  integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#next() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (shift > 21) throw new Error("integer too long");
      const byte = this.#next();
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
  }

  string(): string {
    const isHuffman = (this.peek() & 0x80) !== 0;
    const length = this.integer(7);
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    if (bytes.length < length) throw new Error("header block ends early");
    this.#at += length;
    return isHuffman ? decodeHuffman(bytes) : Buffer.from(bytes).toString("latin1");
  }

  #next(): number {
    const byte = this.peek();
    this.#at++;
    return byte;
  }
}
