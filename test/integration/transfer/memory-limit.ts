import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createGzip } from "node:zlib";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { TarWriter } from "#pkg/archive/tar-writer.ts";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { digestOf, hostPlatform, type Image, ociArchive } from "#test/support/images.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import type { Room } from "#test/support/room.ts";
import { anyName, importObject, storeObject } from "./local-transfer.ts";

const chunkBytes = 1 << 20;

/** A layer with one file: so much that nothing makes smaller, and zeros up to its size. */
export async function largeImage(sizes: { noiseBytes: number; bytes: number }): Promise<Image> {
  const gzip = createGzip({ level: 1 });
  const compressed: Buffer[] = [];
  gzip.on("data", (chunk: Buffer) => compressed.push(chunk));
  const ended = once(gzip, "end");
  const hash = createHash("sha256");
  const plain: Buffer[] = [];
  const writer = new TarWriter((chunk) => plain.push(chunk));
  const pass = async (): Promise<void> => {
    for (const chunk of plain.splice(0)) {
      hash.update(chunk);
      if (!gzip.write(chunk)) await once(gzip, "drain");
    }
  };
  writer.begin({ type: "file", name: "large", mode: 0o644, sizeBytes: sizes.bytes });
  for (let at = 0; at < sizes.bytes; at += chunkBytes) {
    writer.data(at < sizes.noiseBytes ? randomBytes(chunkBytes) : Buffer.alloc(chunkBytes));
    await pass();
  }
  writer.finish();
  await pass();
  gzip.end();
  await ended;
  return imageOf(Buffer.concat(compressed), `sha256:${hash.digest("hex")}`);
}

function imageOf(layer: Buffer, diffId: string): Image {
  const blobs = new Map<string, Uint8Array>();
  const add = (kind: string, bytes: Buffer) => {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return { mediaType: `application/vnd.oci.image.${kind}`, digest, size: bytes.length };
  };
  const rootfs = { type: "layers", diff_ids: [diffId] };
  const config = add(
    "config.v1+json",
    Buffer.from(JSON.stringify({ ...hostPlatform, config: {}, rootfs })),
  );
  const layers = [add("layer.v1.tar+gzip", layer)];
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers }));
  const { digest, size } = add("manifest.v1+json", manifest);
  return { target: { mediaType, digest, size }, blobs, roles: new Map() };
}

/** A limit for all that a process holds, pages of the files it writes included; beyond it the kernel kills. */
export class MemoryLimit {
  readonly #dir: string;
  readonly #isUnified: boolean;

  private constructor(dir: string, isUnified: boolean) {
    this.#dir = dir;
    this.#isUnified = isUnified;
  }

  /** Before the daemon starts, so that the group goes after it. */
  static async open(room: Room): Promise<MemoryLimit> {
    const base = "/sys/fs/cgroup";
    const isUnified = existsSync(join(base, "cgroup.controllers"));
    const dir = join(base, ...(isUnified ? [] : ["memory"]), `${room.namespace}-memory`);
    await mkdir(dir);
    room.resources.defer(() => rmdir(dir));
    return new MemoryLimit(dir, isUnified);
  }

  async put(daemon: Daemon, limitBytes: number): Promise<void> {
    // What it holds already stays with the group it was in.
    const status = await readFile(`/proc/${daemon.pid}/status`, "utf8");
    const ownBytes = Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
    const file = this.#isUnified ? "memory.max" : "memory.limit_in_bytes";
    await writeFile(join(this.#dir, file), String(limitBytes - ownBytes));
    await writeFile(join(this.#dir, "cgroup.procs"), String(daemon.pid));
  }

  /** How many processes the kernel killed for it. */
  async kills(): Promise<number> {
    const file = this.#isUnified ? "memory.events" : "memory.oom_control";
    const text = await readFile(join(this.#dir, file), "utf8");
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1]);
  }
}

/** The most that the daemon held of its own since it started, in megabytes. */
export async function peakMb(daemon: Daemon): Promise<number> {
  const status = await readFile(`/proc/${daemon.pid}/status`, "utf8");
  return Math.round(Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024);
}

/** Pulls and imports an image of one such layer, with 256 MiB for the daemon. Answers its peaks in words. */
export async function moveWithinLimit(
  room: Room,
  sizes: { noiseBytes: number; bytes: number },
): Promise<string> {
  const limit = await MemoryLimit.open(room);
  const image = await largeImage(sizes);
  const daemon = await startDaemon(room, { kind: "ours" });
  const served = { repository: "large", tag: "1", image };
  const registry = room.resources.use(await startRegistry([served]));
  const reference = `${registry.host}/large:1`;
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const transferrer = new GrpcTransferrer(transport);
  await limit.put(daemon, 256 << 20);
  const unpacks = [{ platform: hostPlatform, snapshotter: "" }];
  const platforms = [hostPlatform];
  const source: RegistryObject = {
    kind: "registry",
    reference,
    headers: {},
    hostDir: "",
    credentials: undefined,
    defaultScheme: "http",
  };
  await transferrer.transfer(ctx, source, storeObject({ name: reference, platforms, unpacks }));
  const pulled = await peakMb(daemon);
  await daemon.ctrOk(["images", "rm", "--sync", reference], { timeoutMs: 600_000 });
  const archive = ociArchive(image, "docker.io/library/large:1");
  const store = storeObject({ references: [anyName], platforms, unpacks });
  await transferrer.transfer(ctx, importObject(archive), store);
  assert.match(await daemon.ctrOk(["snapshots", "ls"]), /Committed/);
  assert.equal(await limit.kills(), 0);
  return `peaks: ${pulled} MB at the pull, ${await peakMb(daemon)} MB at the import`;
}
