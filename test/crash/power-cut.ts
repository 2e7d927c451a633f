import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import {
  crashImage,
  servedImages,
  type SnapshotterName,
  unpackConfig,
} from "#test/crash/crash-images.ts";
import { type Crash, crashLoop } from "#test/crash/crash-loop.ts";
import { checkStarted } from "#test/crash/daemon-check.ts";
import { containerOf, makeContainer, pull, type Told } from "#test/crash/daemon-workload.ts";
import { PowerCutDisks } from "#test/crash/power-cut-disks.ts";
import { startDaemon } from "#test/support/daemon.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import type { Room } from "#test/support/room.ts";

const stores = [
  "content.v1.content",
  "metadata.v1.bolt",
  "snapshotter.v1.overlayfs",
  "snapshotter.v1.native",
];

/** Power cuts, a seed each, with blobs, records and layers on disks of their own. */
export async function powerCuts(room: Room, seeds: readonly number[]): Promise<readonly string[]> {
  return crashLoop(room, seeds, await powerCut(room));
}

/** A power cut as soon as a client was told of its container. */
export async function cutBehindContainer(room: Room, snapshotter: SnapshotterName): Promise<void> {
  const cut = await powerCut(room);
  const registry = room.resources.use(await startRegistry(servedImages(4)));
  const images = Array.from({ length: 4 }, (_, i) => crashImage(i, registry.host));
  const image = images.find((one) => one.snapshotter === snapshotter);
  if (!image) throw new Error(`no image is unpacked into ${snapshotter}`);
  const { pulled } = image.names;
  const daemon = await startDaemon(room, { kind: "ours", config: unpackConfig });
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  {
    await using transport = new GrpcTransport({ path: daemon.address });
    await pull(ctx, transport, image, pulled);
    await makeContainer(ctx, transport, image);
    await cut.end(daemon);
  }
  await daemon.start();
  const told: Told = {
    images: new Map([[pulled, "here"]]),
    containers: new Map([[containerOf(image), "here"]]),
  };
  await checkStarted({ room, daemon, images, told });
}

async function powerCut(room: Room): Promise<Crash> {
  const root = join(room.dir, "daemon/root");
  const dirs = stores.map((store) => join(root, `io.containerd.${store}`));
  const disks = await PowerCutDisks.mount(room, dirs);
  return {
    async end(daemon) {
      await disks.cut(daemon.pid, () => daemon.crash());
      // What was in memory goes as well, and the kernel that starts is another one.
      await rm(daemon.state, { recursive: true });
      await rm(join(root, "io.containerd.content.v1.content/boot-id"), { force: true });
    },
  };
}
