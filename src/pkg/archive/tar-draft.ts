import { type PaxRecord, parsePaxInteger, parsePaxTime } from "#pkg/archive/pax.ts";
import { type PaxSparse, parsePaxSparse } from "#pkg/archive/sparse.ts";
import {
  type ByteString,
  type Extent,
  invalidArchive,
  shown,
  type TarEntry,
  type TarEntryType,
} from "#pkg/archive/tar-entry.ts";
import type { RawHeader } from "#pkg/archive/tar-header.ts";

/** An entry while its headers are put together. */
export interface Draft {
  readonly type: TarEntryType;
  readonly name: ByteString;
  readonly linkName: ByteString;
  readonly raw: RawHeader;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  readonly atimeNs: bigint | undefined;
  readonly xattrs: ReadonlyMap<ByteString, Buffer>;
  /** The sparse map stands before the data. */
  readonly mapInData: boolean;
  extents: Extent[] | undefined;
  sizeBytes: number;
  /** Bytes of the archive that hold the entry's data. */
  storedBytes: number;
}

const nameBytesMax = 4095;
const xattrPrefix = "SCHILY.xattr.";
const noXattrs: ReadonlyMap<ByteString, Buffer> = new Map();

const types: Readonly<Record<string, TarEntryType>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  S: "file",
  "1": "link",
  "2": "symlink",
  "3": "character",
  "4": "block",
  "5": "directory",
  "6": "fifo",
};

/**
 * Lays the extensions over the header: extended records over the block, GNU long names over both.
 */
export function draftEntry(
  raw: RawHeader,
  records: readonly PaxRecord[],
  longName: ByteString | undefined,
  longLink: ByteString | undefined,
): Draft {
  const pax = collect(records);
  const sparse = records.length > 0 ? parsePaxSparse(records) : undefined;
  const name = longName ?? sparse?.name ?? pax.name ?? raw.name;
  const linkName = longLink ?? pax.linkName ?? raw.linkName;
  assertName(name);
  assertName(linkName);
  const type = typeOf(raw, name);
  const storedBytes = type === "file" ? (pax.sizeBytes ?? raw.sizeBytes) : 0;
  if (storedBytes < 0) throw invalidArchive(`negative size of ${shown(name)}`);
  return {
    type,
    name,
    linkName,
    raw,
    uid: assertId(pax.uid ?? raw.uid, "uid", name),
    gid: assertId(pax.gid ?? raw.gid, "gid", name),
    mtimeNs: pax.mtimeNs ?? BigInt(raw.mtimeSeconds) * 1_000_000_000n,
    atimeNs: pax.atimeNs ?? secondsToNanos(raw.atimeSeconds),
    xattrs: pax.xattrs ?? noXattrs,
    ...sparseOf(type, sparse, storedBytes),
    storedBytes,
  };
}

function sparseOf(
  type: TarEntryType,
  sparse: PaxSparse | undefined,
  storedBytes: number,
): Pick<Draft, "mapInData" | "extents" | "sizeBytes"> {
  if (type !== "file" || sparse === undefined) {
    return { mapInData: false, extents: undefined, sizeBytes: storedBytes };
  }
  if (sparse.sizeBytes === undefined || sparse.sizeBytes < 0) {
    throw invalidArchive("sparse file without its real size");
  }
  return {
    mapInData: sparse.extents === undefined,
    extents: sparse.extents,
    sizeBytes: sparse.sizeBytes,
  };
}

export function finishEntry(draft: Draft): TarEntry {
  return {
    type: draft.type,
    name: draft.name,
    linkName: draft.linkName,
    mode: draft.raw.mode & 0o7777,
    uid: draft.uid,
    gid: draft.gid,
    sizeBytes: draft.sizeBytes,
    mtimeNs: draft.mtimeNs,
    atimeNs: draft.atimeNs,
    device: { major: draft.raw.major, minor: draft.raw.minor },
    xattrs: draft.xattrs,
    extents: draft.extents,
  };
}

interface PaxFields {
  name?: ByteString;
  linkName?: ByteString;
  sizeBytes?: number;
  uid?: number;
  gid?: number;
  mtimeNs?: bigint;
  atimeNs?: bigint;
  xattrs?: Map<ByteString, Buffer>;
}

function collect(records: readonly PaxRecord[]): PaxFields {
  const fields: PaxFields = {};
  for (const { key, value } of records) {
    if (key.startsWith(xattrPrefix)) {
      fields.xattrs ??= new Map();
      fields.xattrs.set(key.slice(xattrPrefix.length), value);
    } else if (value.length > 0) {
      // An empty record takes an earlier one back, so the header block counts.
      collectField(fields, key, value);
    }
  }
  return fields;
}

function collectField(fields: PaxFields, key: ByteString, value: Buffer): void {
  switch (key) {
    case "path":
      fields.name = value.toString("latin1");
      break;
    case "linkpath":
      fields.linkName = value.toString("latin1");
      break;
    case "size":
      fields.sizeBytes = parsePaxInteger(key, value);
      break;
    case "uid":
      fields.uid = parsePaxInteger(key, value);
      break;
    case "gid":
      fields.gid = parsePaxInteger(key, value);
      break;
    case "mtime":
      fields.mtimeNs = parsePaxTime(key, value);
      break;
    case "atime":
      fields.atimeNs = parsePaxTime(key, value);
      break;
    default:
      break;
  }
}

function typeOf(raw: RawHeader, name: ByteString): TarEntryType {
  // Before ustar a directory was a file whose name ends with a slash.
  if (raw.typeflag === "\0" && name.endsWith("/")) return "directory";
  const type = types[raw.typeflag];
  if (type === undefined) {
    const code = raw.typeflag.charCodeAt(0);
    throw invalidArchive(`${shown(name)}: unhandled tar header type ${code}`);
  }
  return type;
}

function assertName(name: ByteString): void {
  if (name.length <= nameBytesMax) return;
  throw invalidArchive(`name of ${name.length} bytes, at most ${nameBytesMax}: ${shown(name)}`);
}

/** Ids as the kernel takes them: some archivers write `nobody` as -2. */
function assertId(id: number, field: "uid" | "gid", name: ByteString): number {
  if (id >= -0x8000_0000 && id <= 0xffff_ffff) return id >>> 0;
  throw invalidArchive(`${shown(name)}: ${field} ${id} is out of range`);
}

function secondsToNanos(seconds: number | undefined): bigint | undefined {
  return seconds === undefined ? undefined : BigInt(seconds) * 1_000_000_000n;
}
