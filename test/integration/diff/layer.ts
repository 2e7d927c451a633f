import { createHash } from "node:crypto";
import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { applyLayer } from "#pkg/archive/apply-layer.ts";
import type { ExtractOptions } from "#pkg/archive/layer-extractor.ts";
import { type NewTarEntry, TarWriter } from "#pkg/archive/tar-writer.ts";
import type { AppliedLayer } from "#pkg/archive/tree-job.ts";
import { linux } from "#pkg/sys/linux.ts";

export type LayerEntry = NewTarEntry & { readonly content?: string | Buffer };

/** The bytes of a layer with these entries. */
export function layerOf(...entries: readonly LayerEntry[]): Buffer {
  const chunks: Buffer[] = [];
  const writer = new TarWriter((chunk) => chunks.push(chunk));
  for (const { content, ...entry } of entries) {
    const data = typeof content === "string" ? Buffer.from(content) : (content ?? Buffer.alloc(0));
    writer.begin({ ...entry, sizeBytes: entry.sizeBytes ?? data.length });
    if (data.length > 0) writer.data(data);
  }
  writer.finish();
  return Buffer.concat(chunks);
}

export function file(
  name: string,
  content: string | Buffer = "",
  more: Partial<LayerEntry> = {},
): LayerEntry {
  return { type: "file", name, content, mode: 0o644, mtimeNs: 1_000_000_000_000_000_000n, ...more };
}

export function directory(name: string, more: Partial<LayerEntry> = {}): LayerEntry {
  return { type: "directory", name, mode: 0o755, mtimeNs: 1_000_000_000_000_000_000n, ...more };
}

export function symlink(
  name: string,
  linkName: string,
  more: Partial<LayerEntry> = {},
): LayerEntry {
  return { type: "symlink", name, linkName, mode: 0o777, ...more };
}

export function link(name: string, linkName: string, more: Partial<LayerEntry> = {}): LayerEntry {
  return { type: "link", name, linkName, mode: 0o644, ...more };
}

/** A directory that goes with the scope. */
export function scratch(): Disposable & { readonly path: string } {
  const dir = fs.mkdtempSync(path.join(tmpdir(), "layer-test-"));
  fs.chmodSync(dir, 0o755);
  return {
    path: dir,
    [Symbol.dispose]: () => fs.rmSync(dir, { recursive: true, force: true }),
  };
}

export const merged: ExtractOptions = { whiteouts: "remove", parents: [], devices: "make" };
export const overlay: ExtractOptions = { whiteouts: "overlay", parents: [], devices: "make" };

/** Applies bytes, in pieces of a length that divides nothing. */
export async function apply(
  root: string,
  layer: Buffer,
  options: ExtractOptions = merged,
): Promise<AppliedLayer> {
  return applyLayer(linux, root, pieces(layer), options, () => {});
}

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer, void, undefined> {
  for (let at = 0; at < bytes.length; at += 1009) yield bytes.subarray(at, at + 1009);
}

export interface FileFacts {
  readonly mode: string;
  readonly owner: string;
  readonly content: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

/** All but times of everything below a directory, by path (bytes as latin1). */
export function factsOf(root: string): Record<string, FileFacts> {
  const facts: Record<string, FileFacts> = {};
  const visit = (name: string): void => {
    const file = Buffer.from(path.posix.join(root, name), "latin1");
    const stat = fs.lstatSync(file);
    const xattrs: Record<string, string> = {};
    for (const key of linux.llistxattr(file)) {
      if (key.toString().startsWith("trusted.overlay.")) continue;
      xattrs[key.toString("latin1")] = linux.lgetxattr(file, key)?.toString("latin1") ?? "";
    }
    facts[name] = {
      mode: stat.mode.toString(8),
      owner: `${stat.uid}:${stat.gid}`,
      content: contentOf(file, stat),
      xattrs,
    };
    if (!stat.isDirectory()) return;
    for (const child of fs.readdirSync(file, { encoding: "latin1" }).sort()) {
      visit(path.posix.join(name, child));
    }
  };
  visit(".");
  return facts;
}

function contentOf(file: Buffer, stat: fs.Stats): string {
  if (stat.isFile()) return createHash("sha256").update(fs.readFileSync(file)).digest("hex");
  if (stat.isSymbolicLink()) return fs.readlinkSync(file, "latin1");
  if (stat.isCharacterDevice() || stat.isBlockDevice()) return `device ${stat.rdev}`;
  return "";
}

export const needsRoot = process.getuid?.() === 0 ? false : "needs root";
