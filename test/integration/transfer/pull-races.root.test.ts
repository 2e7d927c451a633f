import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { readBlob } from "#core/content/content.ts";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import { Context } from "#pkg/context.ts";
import { parseDigest } from "#pkg/digest.ts";
import { isNotFound } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import {
  type CrashImage,
  crashImage,
  servedImages,
  unpackConfig,
} from "#test/crash/crash-images.ts";
import { collect, pull } from "#test/crash/daemon-workload.ts";
import { Random } from "#test/crash/random.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const pullers = 8;
const rounds = 6;
// Fewer than pullers: two of them share each image's every layer, under names of their own.
const imageCount = 4;

interface Puller {
  readonly ctx: Context;
  readonly transport: GrpcTransport;
  readonly daemon: Daemon;
  readonly image: CrashImage;
  readonly name: string;
}

/** What the user of a pulled image sees: every blob, and a snapshot of every layer. */
async function assertWhole({ ctx, transport, image }: Puller): Promise<void> {
  const content = new ProxyContentStore(transport);
  for (const [digest, bytes] of image.image.blobs) {
    const read = await readBlob(ctx, content, { digest: parseDigest(digest) }, bytes.length);
    assert.ok(Buffer.from(bytes).equals(read), digest);
  }
  const snapshotter = new GrpcSnapshotter(transport, image.snapshotter);
  for (const { name } of image.chains) {
    assert.equal((await snapshotter.stat(ctx, name)).kind, "committed");
  }
}

/** Pulls, looks, waits a little, looks again, and removes its name: half of them wait for the collection. */
async function pullAndRemove(puller: Puller, random: Random): Promise<void> {
  const { ctx, transport, daemon, image, name } = puller;
  const byCtr = ["images", "pull", "--plain-http", "--snapshotter", image.snapshotter, name];
  for (let round = 0; round < rounds; round++) {
    if (random.below(4) === 0) await daemon.ctrOk(byCtr);
    else await pull(ctx, transport, image, name);
    await assertWhole(puller);
    await delay(random.below(40));
    await assertWhole(puller);
    await createClient(Images, transport).delete(ctx, { name, sync: random.below(2) === 0 });
  }
}

async function openPullers(room: Room, daemon: Daemon): Promise<Puller[]> {
  const served = servedImages(imageCount).flatMap((one) => [
    one,
    { ...one, tag: `${one.tag}-too` },
  ]);
  const registry = room.resources.use(await startRegistry(served));
  const images = Array.from({ length: imageCount }, (_, i) => crashImage(i, registry.host));
  return Array.from({ length: pullers }, (_, i) => {
    const image = images[i % imageCount];
    assert.ok(image);
    const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
    const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
    const name = i < imageCount ? image.names.pulled : `${image.names.pulled}-too`;
    return { ctx, transport, daemon, image, name };
  });
}

roomTest(
  "nobody sees a pulled image lose a part while others pull, remove and collect its layers",
  async (room) => {
    const daemon = await startDaemon(room, { kind: "ours", config: unpackConfig });
    const all = await openPullers(room, daemon);
    const [first] = all;
    assert.ok(first);
    let pulling = true;
    const collecting = (async () => {
      while (pulling) await collect(first.ctx, first.transport);
    })();
    try {
      await Promise.all(all.map((puller, i) => pullAndRemove(puller, new Random(i))));
    } finally {
      pulling = false;
      await collecting;
    }
    // And when all are gone, so is everything they had.
    await collect(first.ctx, first.transport);
    const content = new ProxyContentStore(first.transport);
    for (const digest of first.image.image.blobs.keys()) {
      await assert.rejects(content.info(first.ctx, parseDigest(digest)), isNotFound);
    }
    assert.equal((await daemon.ctrOk(["leases", "ls", "-q"])).trim(), "");
  },
  { needs: ["overlayfs"], timeoutMs: 300_000 },
);
