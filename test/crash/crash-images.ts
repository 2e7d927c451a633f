import { createHash } from "node:crypto";
import { buildImage, hostPlatform, type Image, ociArchive } from "#test/support/images.ts";
import type { Served } from "#test/support/registry/registry.ts";
import type { TarEntry } from "#test/support/tar.ts";

export const snapshotterNames = ["overlayfs", "native"] as const;
export type SnapshotterName = (typeof snapshotterNames)[number];

/** A daemon's, so that it unpacks into either by itself too. */
export const unpackConfig: string = snapshotterNames
  .flatMap((name) => [
    "[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]",
    `platform = 'linux/${hostPlatform.architecture}'`,
    `snapshotter = '${name}'`,
  ])
  .join("\n");

/** An image whose every byte is known, on layers that it shares with others. */
export interface CrashImage {
  readonly index: number;
  /** What it is unpacked into. */
  readonly snapshotter: SnapshotterName;
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

/**
 * The lowest layer is every image's, the next one a pair's, the last its own. Pairs are unpacked into one snapshotter
 * and the other in turn.
 */
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
  const snapshotter = snapshotterNames[(index >> 1) % 2] ?? "overlayfs";
  return { index, snapshotter, names, image, archive: ociArchive(image, names.imported), chains };
}

export function servedImages(count: number): readonly Served[] {
  return Array.from({ length: count }, (_, index) => ({
    repository: "crash",
    tag: String(index),
    image: crashImage(index, "").image,
  }));
}
