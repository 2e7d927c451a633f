import assert from "node:assert";
import path from "node:path";
import { invalidArgument } from "#pkg/errors.ts";
import { formatPaxRecord } from "#pkg/archive/pax.ts";
import {
  type ByteString,
  shown,
  type TarEntry,
  type TarEntryType,
} from "#pkg/archive/tar-entry.ts";
import { blockBytes } from "#pkg/archive/tar-header.ts";

/** What of an entry goes into an archive; what is left out is zero or empty. */
export interface NewTarEntry extends Pick<TarEntry, "type" | "name"> {
  readonly linkName?: ByteString;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly sizeBytes?: number;
  /** Cut to whole seconds. */
  readonly mtimeNs?: bigint;
  readonly device?: TarEntry["device"];
  readonly xattrs?: TarEntry["xattrs"];
}

/**
 * Writes an archive of which every byte follows from its entries: ustar headers, with an extended
 * header before those that ustar cannot hold. The bytes are the same that Go's archive/tar writes
 * in its PAX format, so that a layer made here and one made by upstream have one digest.
 */
export class TarWriter {
  readonly #write: (chunk: Buffer) => void;
  #left = 0;
  #padding = 0;

  constructor(write: (chunk: Buffer) => void) {
    this.#write = write;
  }

  /**
   * Begins an entry; exactly `sizeBytes` of `data` must follow. Throws `invalid-argument` for what
   * has no form.
   */
  begin(entry: NewTarEntry): void {
    assert(this.#left === 0, "an entry begins before the last one is complete");
    const sizeBytes = entry.type === "file" ? (entry.sizeBytes ?? 0) : 0;
    for (const block of formatEntry(entry, sizeBytes)) this.#write(block);
    this.#left = sizeBytes;
    this.#padding = (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
  }

  data(chunk: Buffer): void {
    assert(chunk.length <= this.#left, "more data than the header says");
    this.#left -= chunk.length;
    this.#write(chunk);
    if (this.#left === 0 && this.#padding > 0) this.#write(zeros.subarray(0, this.#padding));
  }

  /** Ends the archive. */
  finish(): void {
    assert(this.#left === 0, "the archive ends inside an entry");
    this.#write(zeros);
  }
}

const zeros = Buffer.alloc(2 * blockBytes);

const typeflags: Readonly<Record<TarEntryType, string>> = {
  file: "0",
  link: "1",
  symlink: "2",
  character: "3",
  block: "4",
  directory: "5",
  fifo: "6",
};

const fields = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  linkName: [157, 100],
  major: [329, 8],
  minor: [337, 8],
} as const;

type NumberField = "mode" | "uid" | "gid" | "size" | "mtime" | "major" | "minor";

function formatEntry(entry: NewTarEntry, sizeBytes: number): Buffer[] {
  const linkName = entry.linkName ?? "";
  const mtimeSeconds = Number(floorSeconds(entry.mtimeNs ?? 0n));
  const records = new Map<ByteString, Buffer | ByteString>();
  const text = (field: "name" | "linkName", key: string, value: ByteString): void => {
    if (value.includes("\0")) throw invalidArgument(`${key} ${shown(value)} holds a NUL`);
    if (value.length > fields[field][1] || !isAscii(value)) records.set(key, value);
  };
  const number = (field: "uid" | "gid" | "size" | "mtime", value: number): void => {
    if (!fitsOctal(field, value)) records.set(field, String(value));
  };
  text("name", "path", entry.name);
  text("linkName", "linkpath", linkName);
  number("uid", entry.uid ?? 0);
  number("gid", entry.gid ?? 0);
  number("size", sizeBytes);
  number("mtime", mtimeSeconds);
  for (const [name, value] of entry.xattrs ?? []) {
    if (name === "" || name.includes("\0") || name.includes("=")) {
      throw invalidArgument(
        `${shown(entry.name)}: attribute name ${shown(name)} has no form in tar`,
      );
    }
    records.set(`SCHILY.xattr.${name}`, value);
  }
  const device = entry.device ?? { major: 0, minor: 0 };
  for (const field of ["major", "minor"] as const) {
    if (!fitsOctal(field, device[field])) {
      throw invalidArgument(
        `${shown(entry.name)}: device ${field} ${device[field]} has no form in tar`,
      );
    }
  }
  const block = newBlock(typeflags[entry.type]);
  putText(block, "name", toAscii(entry.name));
  putText(block, "linkName", toAscii(linkName));
  putNumber(block, "mode", (entry.mode ?? 0) & 0o7777);
  putNumber(block, "uid", entry.uid ?? 0);
  putNumber(block, "gid", entry.gid ?? 0);
  putNumber(block, "size", sizeBytes);
  putNumber(block, "mtime", mtimeSeconds);
  putNumber(block, "major", device.major);
  putNumber(block, "minor", device.minor);
  putChecksum(block);
  return records.size === 0 ? [block] : [...formatExtension(entry.name, records), block];
}

function formatExtension(
  name: ByteString,
  records: ReadonlyMap<ByteString, Buffer | ByteString>,
): Buffer[] {
  const keys = [...records.keys()].sort();
  const data = Buffer.concat(keys.map((key) => formatPaxRecord(key, records.get(key) ?? "")));
  const slash = name.lastIndexOf("/") + 1;
  const extensionName = path.posix.join(name.slice(0, slash), "PaxHeaders.0", name.slice(slash));
  const block = newBlock("x");
  putText(block, "name", toAscii(extensionName).slice(0, fields.name[1]).replace(/\/+$/, ""));
  putNumber(block, "mode", 0);
  putNumber(block, "uid", 0);
  putNumber(block, "gid", 0);
  putNumber(block, "size", data.length);
  putNumber(block, "mtime", 0);
  putChecksum(block);
  const padding = (blockBytes - (data.length % blockBytes)) % blockBytes;
  return [block, data, zeros.subarray(0, padding)];
}

function newBlock(typeflag: string): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(typeflag, 156, "latin1");
  block.write("ustar\0" + "00", 257, "latin1");
  return block;
}

function putText(block: Buffer, field: "name" | "linkName", value: string): void {
  const [offset, lengthBytes] = fields[field];
  // A cut name must not end in a slash: old readers would take a file for a directory.
  const cut = value.length > lengthBytes ? value.slice(0, lengthBytes).replace(/\/+$/, "") : value;
  block.write(cut, offset, "latin1");
}

function putNumber(block: Buffer, field: NumberField, value: number): void {
  const [offset, lengthBytes] = fields[field];
  const shownValue = fitsOctal(field, value) ? value : 0;
  block.write(shownValue.toString(8).padStart(lengthBytes - 1, "0"), offset, "latin1");
}

function putChecksum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

function fitsOctal(field: NumberField, value: number): boolean {
  return value >= 0 && value < 8 ** (fields[field][1] - 1);
}

function isAscii(value: ByteString): boolean {
  return !/[\u0080-\u00ff]/.test(value);
}

function toAscii(value: ByteString): string {
  return value.replaceAll(/[\u0080-\u00ff]/g, "");
}

function floorSeconds(nanos: bigint): bigint {
  const seconds = nanos / 1_000_000_000n;
  return nanos < 0n && nanos % 1_000_000_000n !== 0n ? seconds - 1n : seconds;
}
