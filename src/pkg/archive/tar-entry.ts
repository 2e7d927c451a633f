import { CodedError } from "#pkg/errors.ts";

/**
 * A string of bytes: each character is one byte, 0 to 255.
 *
 * Names in an archive need not be UTF-8, so they are kept as they are; `Buffer.from(name,
 * "latin1")` gives the bytes.
 */
export type ByteString = string;

export type TarEntryType =
  | "file"
  | "link"
  | "symlink"
  | "character"
  | "block"
  | "directory"
  | "fifo";

/** One member of an archive: its headers, extensions merged in. Nothing in it is to be trusted. */
export interface TarEntry {
  readonly type: TarEntryType;
  /** As written: may be absolute, hold `..`, end with a slash. */
  readonly name: ByteString;
  /** Target of a link or symlink. */
  readonly linkName: ByteString;
  /** Permission bits, set-id and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a file, with its holes; 0 for every other type. */
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly atimeNs: bigint | undefined;
  readonly device: { readonly major: number; readonly minor: number };
  /** Extended attributes by their name (a byte string). */
  readonly xattrs: ReadonlyMap<ByteString, Buffer>;
  /** Where a sparse file has data; undefined for one without holes. */
  readonly extents: readonly Extent[] | undefined;
}

/** A part of a sparse file that holds data. */
export interface Extent {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** Malformed or hostile input; upstream's words, for clients that match them. */
export function invalidArchive(what: string): CodedError {
  return new CodedError("invalid-argument", `${what}: invalid archive`);
}

/** A byte string for a message: what is not printable ASCII is escaped, and the end cut off. */
export function shown(name: ByteString): string {
  const cut = name.length > 256 ? `${name.slice(0, 256)}...` : name;
  return JSON.stringify(cut).replaceAll(/[\u007f-\u00ff]/g, (c) => {
    return `\\x${c.charCodeAt(0).toString(16)}`;
  });
}
