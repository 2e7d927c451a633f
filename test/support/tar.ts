import assert from "node:assert/strict";

/** An entry of a layer. Paths are relative, without a leading `./`. */
export type TarEntry = {
  readonly path: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds since the epoch. */
  readonly mtime?: number;
} & (
  | { readonly type?: "file"; readonly content: string | Uint8Array }
  | { readonly type: "directory" }
  | { readonly type: "symlink" | "hardlink"; readonly target: string }
  | {
      readonly type: "character" | "block";
      readonly major: number;
      readonly minor: number;
    }
  | { readonly type: "fifo" }
);

const blockSize = 512;
const typeFlags = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  character: "3",
  block: "4",
  directory: "5",
  fifo: "6",
} as const;

/** Writes a POSIX ustar archive. Same entries, same bytes: tests compare digests. */
export function tar(entries: readonly TarEntry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const entry of entries) {
    const content = contentOf(entry);
    blocks.push(header(entry, content.length), content);
    blocks.push(Buffer.alloc((blockSize - (content.length % blockSize)) % blockSize));
  }
  blocks.push(Buffer.alloc(2 * blockSize));
  return Buffer.concat(blocks);
}

/** The entry that hides `path` of the layers below. */
export function whiteout(path: string): TarEntry {
  const slash = path.lastIndexOf("/") + 1;
  return { path: `${path.slice(0, slash)}.wh.${path.slice(slash)}`, content: "" };
}

/** The entry that hides everything the layers below have in `directory`. */
export function opaque(directory: string): TarEntry {
  return { path: `${directory}/.wh..wh..opq`, content: "" };
}

function contentOf(entry: TarEntry): Buffer {
  return "content" in entry ? Buffer.from(entry.content) : Buffer.alloc(0);
}

function header(entry: TarEntry, size: number): Buffer {
  const type = entry.type ?? "file";
  const path = type === "directory" ? `${entry.path}/` : entry.path;
  const { name, prefix } = splitPath(path);
  const block = Buffer.alloc(blockSize);
  block.write(name, 0);
  octal(block, 100, 8, entry.mode ?? (type === "directory" ? 0o755 : 0o644));
  octal(block, 108, 8, entry.uid ?? 0);
  octal(block, 116, 8, entry.gid ?? 0);
  octal(block, 124, 12, size);
  octal(block, 136, 12, entry.mtime ?? 0);
  block.write("        ", 148);
  block.write(typeFlags[type], 156);
  if ("target" in entry) block.write(entry.target, 157, 100);
  block.write("ustar\x0000", 257);
  if ("major" in entry) {
    octal(block, 329, 8, entry.major);
    octal(block, 337, 8, entry.minor);
  }
  block.write(prefix, 345);
  const checksum = block.reduce((sum, byte) => sum + byte, 0);
  block.write(`${checksum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

function octal(block: Buffer, offset: number, width: number, value: number): void {
  const digits = value.toString(8).padStart(width - 1, "0");
  assert.ok(digits.length < width, `tar: ${value} does not fit a field of ${width}`);
  block.write(`${digits}\0`, offset);
}

/** A long path goes into two fields, cut at a slash. */
function splitPath(path: string): { name: string; prefix: string } {
  if (Buffer.byteLength(path) <= 100) return { name: path, prefix: "" };
  for (let cut = path.indexOf("/"); cut > 0; cut = path.indexOf("/", cut + 1)) {
    const [prefix, name] = [path.slice(0, cut), path.slice(cut + 1)];
    if (name.length > 0 && Buffer.byteLength(name) <= 100 && Buffer.byteLength(prefix) <= 155) {
      return { name, prefix };
    }
  }
  throw new Error(`tar: path is too long for ustar: ${path}`);
}
