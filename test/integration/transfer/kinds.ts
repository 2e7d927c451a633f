import { createHash } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import { busyboxLayer, type Descriptor, digestOf, type Image } from "#test/support/images.ts";
import { tar, type TarEntry } from "#test/support/tar.ts";

// Images that others make and the builder of images here does not.

export const ociTypes = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
};
export const inToto = "application/vnd.in-toto+json";

interface Part {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly [field: string]: unknown;
}

/** Blobs with the descriptors of them. */
export class Parts {
  readonly blobs = new Map<string, Uint8Array>();

  add(mediaType: string, bytes: Uint8Array | string, more: object = {}): Part {
    return this.#keep(digestOf(bytes), mediaType, bytes, more);
  }

  /** The same by another hash than the usual one. */
  addSha512(mediaType: string, bytes: Uint8Array | string): Part {
    const digest = `sha512:${createHash("sha512").update(bytes).digest("hex")}`;
    return this.#keep(digest, mediaType, bytes, {});
  }

  #keep(digest: string, mediaType: string, bytes: Uint8Array | string, more: object): Part {
    this.blobs.set(digest, Buffer.from(bytes));
    return { mediaType, digest, size: Buffer.byteLength(bytes), ...more };
  }

  document(mediaType: string, fields: object, more: object = {}): Part {
    return this.add(mediaType, JSON.stringify({ schemaVersion: 2, mediaType, ...fields }), more);
  }

  /** With everything that was added. */
  image({ mediaType, digest, size }: Descriptor): Image {
    return { target: { mediaType, digest, size }, blobs: this.blobs, roles: new Map() };
  }
}

/** A configuration of an image for this machine whose layers hold the given archives. */
export function configOf(
  archives: readonly Uint8Array[],
  platform: { readonly os: string; readonly architecture: string; readonly variant?: string },
): string {
  const diffIds = archives.map((archive) => digestOf(archive));
  return JSON.stringify({
    ...platform,
    config: { Env: ["PATH=/bin"] },
    rootfs: { type: "layers", diff_ids: diffIds },
  });
}

/** A root in which `cat /etc/motd` says the text. */
export function rootWith(text: string): Buffer {
  const entries: TarEntry[] = [...busyboxLayer(), { path: "etc/motd", content: text }];
  return tar(entries);
}

/**
 * A layer as `podman push --compression-format zstd:chunked` lays it out: a frame for each part, then a table of
 * contents and a footer in frames that others skip.
 */
export function zstdChunked(archive: Buffer): { bytes: Buffer; annotations: object } {
  const frames: Buffer[] = [];
  for (let at = 0; at < archive.length; at += 300_000) {
    frames.push(zstdCompressSync(archive.subarray(at, at + 300_000)));
  }
  const body = Buffer.concat(frames);
  const plainToc = Buffer.from(JSON.stringify({ version: 1, entries: [] }));
  const toc = zstdCompressSync(plainToc);
  const position = [body.length + 8, toc.length, plainToc.length, 1];
  const footer = Buffer.alloc(64);
  position.forEach((value, i) => footer.writeBigUInt64LE(BigInt(value), 8 * i));
  footer.write("GNUlInUx", 56);
  const prefix = "io.github.containers.zstd-chunked.manifest-";
  return {
    bytes: Buffer.concat([body, skippable(toc), skippable(footer)]),
    annotations: {
      [`${prefix}checksum`]: digestOf(toc),
      [`${prefix}position`]: position.join(":"),
    },
  };
}

function skippable(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a50, 0);
  head.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([head, bytes]);
}
