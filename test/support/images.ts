import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { debianProgram } from "#test/support/debian.ts";
import { helloProgram, pauseProgram } from "#test/support/hello-program.ts";
import { type TarEntry, tar } from "#test/support/tar.ts";

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: Platform;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** An image in memory: what its manifest or index refers to, and every blob below it. */
export interface Image {
  readonly target: Descriptor;
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  /** What each digest is, for output in which digests are told apart but not compared: `layer0`, `config`. */
  readonly roles: ReadonlyMap<string, string>;
}

/** The `config` object of an image's configuration, as much of it as tests set. */
export interface ImageConfig {
  readonly Cmd?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Env?: readonly string[];
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
  readonly User?: string;
  readonly WorkingDir?: string;
}

export interface ImageOptions {
  readonly layers: readonly (readonly TarEntry[])[];
  readonly config?: ImageConfig;
  readonly platform?: Platform;
  readonly compression?: "none" | "gzip" | "zstd";
  /** Media types of Docker's schema 2 instead of OCI's. */
  readonly docker?: boolean;
}

const oci = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: {
    none: "application/vnd.oci.image.layer.v1.tar",
    gzip: "application/vnd.oci.image.layer.v1.tar+gzip",
    zstd: "application/vnd.oci.image.layer.v1.tar+zstd",
  },
};
const docker = {
  index: "application/vnd.docker.distribution.manifest.list.v2+json",
  manifest: "application/vnd.docker.distribution.manifest.v2+json",
  config: "application/vnd.docker.container.image.v1+json",
  layer: {
    none: "application/vnd.docker.image.rootfs.diff.tar",
    gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
    zstd: "application/vnd.docker.image.rootfs.diff.tar.zstd",
  },
};

/** The platform containers of this machine have, in OCI's words. */
export const hostPlatform: Platform = {
  os: "linux",
  architecture: process.arch === "arm64" ? "arm64" : "amd64",
};

export function digestOf(bytes: string | Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Builds an image of one platform, this machine's unless another is named. */
export function buildImage(options: ImageOptions): Image {
  const types = options.docker ? docker : oci;
  const compression = options.compression ?? "gzip";
  const blobs = new Map<string, Uint8Array>();
  const roles = new Map<string, string>();
  const add = (role: string, mediaType: string, bytes: Uint8Array): Descriptor => {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    roles.set(digest, role);
    return { mediaType, digest, size: bytes.length };
  };
  const archives = options.layers.map((entries) => tar(entries));
  const diffIds = archives.map((archive) => digestOf(archive));
  for (const [digest, role] of chainIds(diffIds)) roles.set(digest, role);
  const platform = options.platform ?? hostPlatform;
  const layers = archives.map((archive, i) =>
    add(`layer${i}`, types.layer[compression], compress(archive, compression)),
  );
  const config = add("config", types.config, json(configuration(options, platform, diffIds)));
  const manifest = { schemaVersion: 2, mediaType: types.manifest, config, layers };
  return { target: add("manifest", types.manifest, json(manifest)), blobs, roles };
}

/** One name for several platforms. Parts keep their digests; their roles are told apart by platform. */
export function buildIndex(
  parts: readonly { readonly image: Image; readonly platform: Platform }[],
  options: { readonly docker?: boolean } = {},
): Image {
  const manifests = parts.map(({ image, platform }) => ({ ...image.target, platform }));
  const mediaType = (options.docker ? docker : oci).index;
  const bytes = json({ schemaVersion: 2, mediaType, manifests });
  const digest = digestOf(bytes);
  const roles = new Map([[digest, "index"]]);
  for (const { image, platform } of parts) {
    for (const [blob, role] of image.roles) roles.set(blob, `${role}-${platform.architecture}`);
  }
  const blobs = new Map([[digest, bytes], ...parts.flatMap(({ image }) => [...image.blobs])]);
  return { target: { mediaType, digest, size: bytes.length }, blobs, roles };
}

/** The image as `ctr images import` takes it: an OCI layout in a tar, under the given name. */
export function ociArchive(image: Image, name: string): Buffer {
  const annotations = { "io.containerd.image.name": name };
  const index = { schemaVersion: 2, manifests: [{ ...image.target, annotations }] };
  return tar([
    { path: "oci-layout", content: JSON.stringify({ imageLayoutVersion: "1.0.0" }) },
    { path: "index.json", content: JSON.stringify(index) },
    ...[...image.blobs].map(([digest, content]) => ({
      path: `blobs/${digest.replace(":", "/")}`,
      content,
    })),
  ]);
}

/** A shell and its commands, in two layers, with the configuration of an ordinary image. */
export function busyboxImage(options: Partial<ImageOptions> = {}): Image {
  return buildImage({
    layers: [busyboxLayer(), [{ path: "etc/motd", content: "second layer\n" }]],
    config: { Cmd: ["sh"], Env: ["PATH=/bin:/sbin", "FROM_IMAGE=yes"] },
    ...options,
  });
}

/** One static program that prints a text: the smallest image that runs. */
export function helloImage(text: string): Image {
  const program = helloProgram(text);
  return buildImage({
    layers: [[{ path: "hello", mode: 0o755, content: program }]],
    config: { Cmd: ["/hello"] },
  });
}

const applets =
  "sh ash cat echo env false grep head hostname id ln ls mkdir mknod mount nohup ps pwd rm sleep stat stty tail test " +
  "touch true tty umask wc";

/**
 * What pods are made of: one static program that waits for ever, with a user of its own as the real
 * one has; `passwd` says who is who in it.
 */
export function pauseImage(config: ImageConfig = {}, passwd?: string): Image {
  const program: TarEntry = { path: "pause", mode: 0o755, content: pauseProgram() };
  const users: TarEntry[] = passwd === undefined ? [] : [{ path: "etc/passwd", content: passwd }];
  const own = { Entrypoint: ["/pause"], User: "65535:65535", Env: ["PATH=/"], WorkingDir: "/" };
  return buildImage({ layers: [[program, ...users]], config: { ...own, ...config } });
}

export function busyboxLayer(): TarEntry[] {
  return [
    { path: "bin", type: "directory" },
    { path: "bin/busybox", mode: 0o755, content: readFileSync(debianProgram("busybox")) },
    ...applets
      .split(" ")
      .map((name) => ({ path: `bin/${name}`, type: "symlink", target: "busybox" }) as const),
    { path: "dev", type: "directory" },
    { path: "etc", type: "directory" },
    { path: "etc/group", content: "root:x:0:\nusers:x:100:\n" },
    { path: "etc/passwd", content: "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:100::/:/bin/sh\n" },
    { path: "proc", type: "directory" },
    { path: "root", type: "directory", mode: 0o700 },
    { path: "sys", type: "directory" },
    { path: "tmp", type: "directory", mode: 0o1777 },
  ];
}

function configuration(options: ImageOptions, platform: Platform, diffIds: string[]): object {
  return {
    created: "2020-01-01T00:00:00Z",
    ...platform,
    config: options.config ?? {},
    rootfs: { type: "layers", diff_ids: diffIds },
    history: diffIds.map(() => ({ created: "2020-01-01T00:00:00Z", created_by: "test" })),
  };
}

/** Snapshots are named after chains: the first after its layer, each further one after the chain so far and its own. */
function* chainIds(diffIds: readonly string[]): Generator<[string, string]> {
  let chain = "";
  for (const [i, diffId] of diffIds.entries()) {
    yield [diffId, `diff${i}`];
    chain = i === 0 ? diffId : digestOf(`${chain} ${diffId}`);
    if (i > 0) yield [chain, `chain${i}`];
  }
}

function compress(bytes: Buffer, compression: "none" | "gzip" | "zstd"): Buffer {
  switch (compression) {
    case "none":
      return bytes;
    case "gzip":
      return gzipSync(bytes);
    case "zstd":
      return zstdCompressSync(bytes);
  }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
