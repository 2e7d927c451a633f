import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { readBlob } from "#core/content/content.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import type { SnapshotInfo } from "#core/snapshots/snapshots.ts";
import { Context } from "#pkg/context.ts";
import { parseDigest } from "#pkg/digest.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { CrashImage } from "#test/crash/crash-images.ts";
import { collect, type Told } from "#test/crash/daemon-workload.ts";
import type { Daemon } from "#test/support/daemon.ts";
import type { Room } from "#test/support/room.ts";

interface Started {
  readonly room: Room;
  readonly daemon: Daemon;
  readonly images: readonly CrashImage[];
  readonly told: Told;
}

/**
 * After a start that followed a crash: what clients were told is there is there, byte for byte and mounted, before
 * and after a collection that no lease holds back; and nothing is left on the disk that no record names.
 */
export async function checkStarted(started: Started): Promise<void> {
  const { room, daemon } = started;
  await using transport = new GrpcTransport({ path: daemon.address });
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const check = new Check(ctx, transport, started);
  await check.images();
  await check.snapshots();
  const leases = createClient(Leases, transport);
  for (const { id } of (await leases.list(ctx, { filters: [] })).leases)
    await leases.delete(ctx, { id });
  await collect(ctx, transport);
  await check.images();
  await check.snapshots();
  await collect(ctx, transport);
  await check.noRubbish();
}

class Check {
  readonly #ctx: Context;
  readonly #transport: GrpcTransport;
  readonly #started: Started;
  readonly #content: ProxyContentStore;
  readonly #snapshotter: GrpcSnapshotter;

  constructor(ctx: Context, transport: GrpcTransport, started: Started) {
    this.#ctx = ctx;
    this.#transport = transport;
    this.#started = started;
    this.#content = new ProxyContentStore(transport);
    this.#snapshotter = new GrpcSnapshotter(transport, "overlayfs");
  }

  async images(): Promise<void> {
    const { images, told } = this.#started;
    const listed = (await createClient(Images, this.#transport).list(this.#ctx, {})).images;
    const names = listed.map(({ name }) => name);
    for (const [name, what] of told) {
      if (what === "unsure") told.set(name, names.includes(name) ? "unsure" : "gone");
      else assert.equal(names.includes(name), what === "here", `${name} was said to be ${what}`);
    }
    const snapshots = new Set((await this.#listSnapshots()).map(({ name }) => name));
    for (const image of images) {
      for (const name of Object.values(image.names).filter((one) => names.includes(one))) {
        // Listed is whole, also where the crash came before the answer.
        await this.#assertContent(image);
        if (told.get(name) !== "here") continue;
        for (const chain of image.chains)
          assert.ok(snapshots.has(chain.name), `${name}: ${chain.name}`);
      }
    }
  }

  async #assertContent({ image }: CrashImage): Promise<void> {
    for (const [digest, bytes] of image.blobs) {
      const blob = { digest: parseDigest(digest) };
      const read = await readBlob(this.#ctx, this.#content, blob, bytes.length);
      assert.ok(
        Buffer.from(bytes).equals(read),
        `${digest}: ${read.length} of ${bytes.length} bytes`,
      );
    }
  }

  /** Every committed snapshot mounts and shows the files of its layers. */
  async snapshots(): Promise<void> {
    const { images, room } = this.#started;
    const files = new Map(images.flatMap(({ chains }) => chains).map((c) => [c.name, c.files]));
    const mounter = new Mounter({ sys: linux, tempDir: room.dir });
    for (const { kind, name } of await this.#listSnapshots()) {
      if (kind !== "committed") continue;
      const expected = files.get(name);
      assert.ok(expected, `${name} is a chain of the images`);
      const view = `check ${name}`;
      const labels = { "containerd.io/gc.root": "while it is looked at" };
      const mounts = await this.#snapshotter.view(this.#ctx, view, name, { labels });
      await mounter.withTempMount(this.#ctx, mounts, async (dir) => {
        for (const [path, bytes] of expected) {
          const found = await readFile(join(dir, path));
          assert.ok(bytes.equals(found), `${name}: ${path}: ${found.length} of ${bytes.length}`);
        }
      });
      await this.#snapshotter.remove(this.#ctx, view);
    }
  }

  /** What the backends' folders hold is what is recorded. */
  async noRubbish(): Promise<void> {
    const { root } = this.#started.daemon;
    const store = join(root, "io.containerd.content.v1.content");
    const recorded = await Array.fromAsync(this.#content.list(this.#ctx), ({ digest }) =>
      digest.slice(7),
    );
    const blobs = await readdir(join(store, "blobs/sha256"));
    assert.deepEqual(blobs.toSorted(), recorded.toSorted());
    const ingests = await this.#content.listStatuses(this.#ctx);
    assert.equal((await readdir(join(store, "ingest"))).length, ingests.length);
    const overlayfs = join(root, "io.containerd.snapshotter.v1.overlayfs/snapshots");
    await this.#snapshotter.cleanup(this.#ctx);
    assert.equal((await readdir(overlayfs)).length, (await this.#listSnapshots()).length);
  }

  #listSnapshots(): Promise<SnapshotInfo[]> {
    return Array.fromAsync(this.#snapshotter.list(this.#ctx));
  }
}
