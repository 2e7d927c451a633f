import assert from "node:assert/strict";
import zlib from "node:zlib";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { GrpcDiffer } from "#core/diff/proxy.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import { Context } from "#pkg/context.ts";
import { digestOf } from "#pkg/digest.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { daemonKind, startDaemon } from "#test/support/daemon.ts";
import { newerProgram } from "#test/support/debian.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { file, layerOf } from "./layer.ts";

// What is taken for a compressed layer, and what is said of what is not; runs on Go's containerd too
// (CONTAINERD_TEST_DAEMON=go).

const layer = layerOf(file("f", "x".repeat(100_000)));
/** An archive's end is zeros: the same archive with more of them. */
const zeros = Buffer.alloc(1024);
const text = Buffer.from("and something else");

const gzip = zlib.gzipSync(layer);
const gzipZeros = zlib.gzipSync(zeros);
const gzipText = zlib.gzipSync(text);
const gzipEmpty = zlib.gzipSync(Buffer.alloc(0));
const zstd = zlib.zstdCompressSync(layer);
const zstdZeros = zlib.zstdCompressSync(zeros);
const zstdText = zlib.zstdCompressSync(text);
const zstdEmpty = zlib.zstdCompressSync(Buffer.alloc(0));
const skippable = Buffer.from("502a4d1804000000deadbeef", "hex");

/** With how many bytes more than the layer's. */
const taken: readonly (readonly [what: string, parts: readonly Buffer[], moreBytes: number])[] = [
  ["gzip", [gzip], 0],
  ["gzip of several members", [gzip, gzipZeros, gzipEmpty], zeros.length],
  ["gzip with a member behind the archive's end", [gzip, gzipText], text.length],
  ["zstd", [zstd], 0],
  ["zstd of several frames", [zstd, zstdZeros, zstdEmpty], zeros.length],
  ["zstd with frames to skip", [skippable, zstd, skippable, zstdZeros, skippable], zeros.length],
  ["zstd with a frame behind the archive's end", [zstd, zstdText], text.length],
];

const truncated = /truncated: unexpected EOF|unexpected EOF/;
const noGzip = /gzip stream is damaged|gzip: invalid/;
const noZstd = /zstd stream is damaged|magic number mismatch/;

const refused: readonly (readonly [what: string, parts: readonly Buffer[], words: RegExp])[] = [
  ["gzip and text", [gzip, text], noGzip],
  ["gzip and a magic number's first byte", [gzip, gzip.subarray(0, 1)], truncated],
  ["gzip and a header", [gzip, gzip.subarray(0, 10)], truncated],
  ["gzip and a member that is cut", [gzip, gzipZeros.subarray(0, -3)], truncated],
  ["gzip and zeros", [gzip, zeros], noGzip],
  ["gzip, zeros and a member", [gzip, zeros, gzipZeros], noGzip],
  ["gzip, zeros and text", [gzip, zeros, text], noGzip],
  ["gzip and zstd", [gzip, zstdZeros], noGzip],
  ["gzip without its sum", [gzip.subarray(0, -8)], truncated],
  ["gzip with another sum", [gzip.subarray(0, -8), Buffer.alloc(4), gzip.subarray(-4)], noGzip],
  ["gzip with another length", [gzip.subarray(0, -4), Buffer.alloc(4)], noGzip],
  ["zstd and text", [zstd, text], noZstd],
  ["zstd and a magic number's first bytes", [zstd, zstd.subarray(0, 3)], truncated],
  ["zstd and a magic number", [zstd, zstd.subarray(0, 4)], truncated],
  ["zstd and a frame that is cut", [zstd, zstdZeros.subarray(0, -1)], truncated],
  ["zstd and a frame to skip that is cut", [zstd, skippable.subarray(0, -1)], truncated],
  ["zstd and zeros", [zstd, zeros], noZstd],
  ["zstd, zeros and a frame", [zstd, zeros, zstdZeros], noZstd],
  ["zstd and gzip", [zstd, gzipZeros], noZstd],
  ["zstd that is cut", [zstd.subarray(0, -1)], truncated],
  // What is less than a magic number is too short for one with Go, and none with us.
  ["gzip and a byte", [gzip, Buffer.from("g")], new RegExp(`${truncated.source}|${noGzip.source}`)],
  ["gzip and a zero", [gzip, Buffer.alloc(1)], new RegExp(`${truncated.source}|${noGzip.source}`)],
  ["zstd and a byte", [zstd, Buffer.from("g")], new RegExp(`${truncated.source}|${noZstd.source}`)],
  ["zstd and a zero", [zstd, Buffer.alloc(1)], new RegExp(`${truncated.source}|${noZstd.source}`)],
];

/** Applies blobs as layers, each to a snapshot of its own; returns how many plain bytes it was. */
async function openApply(room: Room): Promise<(blob: Buffer) => Promise<number>> {
  const kind = daemonKind();
  const more = kind === "go" ? { goProgram: newerProgram("sid", "containerd") } : {};
  const daemon = await startDaemon(room, { kind, ...more });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const content = new ProxyContentStore(transport);
  const differ = new GrpcDiffer(transport);
  const snapshotter = new GrpcSnapshotter(transport, "native");
  const labels = { "containerd.io/gc.root": "while it is tried" };
  return async (blob) => {
    const digest = digestOf(blob);
    await using writer = await content.writer(ctx, { ref: digest });
    await writer.write(blob);
    await writer.commit(ctx, { expected: digest, labels });
    const mounts = await snapshotter.prepare(ctx, digest, "", { labels });
    try {
      const type = blob[0] === 0x1f ? "gzip" : "zstd";
      const mediaType = `application/vnd.oci.image.layer.v1.tar+${type}`;
      const described = { mediaType, digest, sizeBytes: blob.length, annotations: {} };
      return (await differ.apply(ctx, described, mounts)).sizeBytes;
    } finally {
      await snapshotter.remove(ctx, digest);
    }
  };
}

roomTest(
  "a compressed layer is members or frames to its end, and nothing else",
  async (room, t) => {
    const apply = await openApply(room);
    for (const [what, parts, moreBytes] of taken) {
      await t.test(`${what}: taken`, async () => {
        assert.equal(await apply(Buffer.concat(parts)), layer.length + moreBytes);
      });
    }
    for (const [what, parts, words] of refused) {
      await t.test(`${what}: refused`, async () => {
        await assert.rejects(apply(Buffer.concat(parts)), words);
      });
    }
  },
  { needs: daemonKind() === "go" ? ["sid"] : [] },
);
