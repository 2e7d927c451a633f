import assert from "node:assert/strict";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import {
  type CrashImage,
  crashImage,
  servedImages,
  snapshotterNames,
  unpackConfig,
} from "#test/crash/crash-images.ts";
import { checkStarted } from "#test/crash/daemon-check.ts";
import { containerOf, makeContainer, pull, type Told } from "#test/crash/daemon-workload.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const imageCount = 32;

const failpointsOf = (snapshotter: string): readonly string[] => [
  `${snapshotter}.directory-made`,
  "metadata.snapshot-before-record",
  "metadata.snapshot-commit-intended",
  `${snapshotter}.commit-synced`,
  "metadata.snapshot-commit-before-record",
  "metadata.sweep-before-snapshot",
  `${snapshotter}.record-removed`,
];

/** An image's life with a container, to its end or the daemon's. */
async function live(room: Room, daemon: Daemon, image: CrashImage, told: Told): Promise<void> {
  await using transport = new GrpcTransport({ path: daemon.address });
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const { pulled } = image.names;
  const id = containerOf(image);
  told.images.set(pulled, "unsure");
  await pull(ctx, transport, image, pulled);
  told.images.set(pulled, "here");
  told.containers.set(id, "unsure");
  await makeContainer(ctx, transport, image);
  told.containers.set(id, "here");
  told.containers.set(id, "unsure");
  await createClient(Containers, transport).delete(ctx, { id });
  told.containers.set(id, "gone");
  told.images.set(pulled, "unsure");
  await createClient(Images, transport).delete(ctx, { name: pulled, sync: true });
  told.images.set(pulled, "gone");
}

for (const snapshotter of snapshotterNames) {
  roomTest(
    `a daemon that ends between two steps of a snapshot in ${snapshotter} loses nothing it told of`,
    async (room, t) => {
      const registry = room.resources.use(await startRegistry(servedImages(imageCount)));
      const images = Array.from({ length: imageCount }, (_, i) => crashImage(i, registry.host));
      const own = images.filter((image) => image.snapshotter === snapshotter);
      const told: Told = { images: new Map(), containers: new Map() };
      const config = unpackConfig;
      for (const [i, failpoint] of failpointsOf(snapshotter).entries()) {
        await t.test(failpoint, async () => {
          const image = own[i];
          assert.ok(image);
          const env = { CONTAINERD_FAILPOINTS: `${failpoint}=kill` };
          const failing = await startDaemon(room, { kind: "ours", config, env });
          await assert.rejects(live(room, failing, image, told));
          const daemon = await startDaemon(room, { kind: "ours", config });
          await checkStarted({ room, daemon, images, told });
          await daemon.stop();
        });
      }
    },
    { needs: ["overlayfs"], timeoutMs: 600_000 },
  );
}
