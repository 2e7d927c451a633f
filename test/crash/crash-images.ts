import { createHash } from "node:crypto";
import { buildImage, type Image, ociArchive } from "#test/support/images.ts";
import type { Served } from "#test/support/registry/registry.ts";
import type { TarEntry } from "#test/support/tar.ts";

/** An image whose every byte is known, on layers that it shares with others. */
export interface CrashImage {
  readonly index: number;
  /** Under which it is pulled, and under which it is imported. */
  readonly names: { readonly pulled: string; readonly imported: string };
  readonly image: Image;
  readonly archive: Buffer;
  /** What the snapshot of each chain of layers must show: files below its root, by path. */
  readonly chains: readonly {
    readonly name: string;
    readonly files: ReadonlyMap<string, Buffer>;
  }[];
}

const fileBytes = [10, 40_000, 200_000];

function bytesOf(text: string, length: number): Buffer {
  return createHash("shake256", { outputLength: length }).update(text).digest();
}

function layerFiles(what: string): ReadonlyMap<string, Buffer> {
  return new Map(fileBytes.map((n) => [`${what}/file-${n}`, bytesOf(`${what} ${n}`, n)]));
}

function layerEntries(what: string): TarEntry[] {
  const files = [...layerFiles(what)].map(([path, content]) => ({ path, content }));
  return [{ path: what, type: "directory" }, ...files];
}

/** The lowest layer is every image's, the next one a pair's, the last its own. */
export function crashImage(index: number, registryHost: string): CrashImage {
  const layers = ["all", `pair-${index >> 1}`, `own-${index}`];
  const image = buildImage({ layers: layers.map(layerEntries) });
  const names = {
    pulled: `${registryHost}/crash:${index}`,
    imported: `example.com/crash:${index}`,
  };
  const byRole = new Map([...image.roles].map(([digest, role]) => [role, digest]));
  const chains = layers.map((_, i) => ({
    name: byRole.get(i === 0 ? "diff0" : `chain${i}`) ?? "",
    files: new Map(layers.slice(0, i + 1).flatMap((layer) => [...layerFiles(layer)])),
  }));
  return { index, names, image, archive: ociArchive(image, names.imported), chains };
}

export function servedImages(count: number): readonly Served[] {
  return Array.from({ length: count }, (_, index) => ({
    repository: "crash",
    tag: String(index),
    image: crashImage(index, "").image,
  }));
}
