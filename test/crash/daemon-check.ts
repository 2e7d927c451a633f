import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { readBlob } from "#core/content/content.ts";
import type { Mount } from "#core/mount/mount.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import type { SnapshotInfo } from "#core/snapshots/snapshots.ts";
import { Context } from "#pkg/context.ts";
import { parseDigest } from "#pkg/digest.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { linux } from "#pkg/sys/linux.ts";
import {
  type CrashImage,
  snapshotterNames,
  type SnapshotterName,
} from "#test/crash/crash-images.ts";
import { collect, containerOf, type Told } from "#test/crash/daemon-workload.ts";
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
  await check.containers();
  const leases = createClient(Leases, transport);
  for (const { id } of (await leases.list(ctx, { filters: [] })).leases)
    await leases.delete(ctx, { id });
  await collect(ctx, transport);
  await check.images();
  await check.snapshots();
  await check.containers();
  await collect(ctx, transport);
  await check.noRubbish();
}

class Check {
  readonly #ctx: Context;
  readonly #transport: GrpcTransport;
  readonly #started: Started;
  readonly #content: ProxyContentStore;
  readonly #snapshotters: ReadonlyMap<SnapshotterName, GrpcSnapshotter>;

  constructor(ctx: Context, transport: GrpcTransport, started: Started) {
    this.#ctx = ctx;
    this.#transport = transport;
    this.#started = started;
    this.#content = new ProxyContentStore(transport);
    this.#snapshotters = new Map(
      snapshotterNames.map((name) => [name, new GrpcSnapshotter(transport, name)]),
    );
  }

  async images(): Promise<void> {
    const { images, told } = this.#started;
    const listed = (await createClient(Images, this.#transport).list(this.#ctx, {})).images;
    const names = listed.map(({ name }) => name);
    for (const [name, fate] of told.images) {
      if (fate === "unsure") told.images.set(name, names.includes(name) ? "unsure" : "gone");
      else assert.equal(names.includes(name), fate === "here", `${name} was said to be ${fate}`);
    }
    for (const image of images) {
      const { snapshotter } = image;
      const snapshots = new Set((await this.#list(snapshotter)).map(({ name }) => name));
      for (const name of Object.values(image.names).filter((one) => names.includes(one))) {
        // Listed is whole, also where the crash came before the answer.
        await this.#assertContent(image, snapshots);
        if (told.images.get(name) !== "here") continue;
        for (const chain of image.chains)
          assert.ok(snapshots.has(chain.name), `${name}: ${chain.name}`);
      }
    }
  }

  /** A layer whose snapshot a container had kept is not fetched again, as with upstream. */
  async #assertContent(
    { image, chains }: CrashImage,
    snapshots: ReadonlySet<string>,
  ): Promise<void> {
    const held = await this.#digests();
    const unpacked = chains.map(({ name }, i) => snapshots.has(name) && `layer${i}`);
    for (const [digest, bytes] of image.blobs) {
      const role = image.roles.get(digest) ?? "";
      if (!held.has(digest) && unpacked.includes(role)) continue;
      const blob = { digest: parseDigest(digest) };
      const read = await readBlob(this.#ctx, this.#content, blob, bytes.length);
      assert.ok(
        Buffer.from(bytes).equals(read),
        `${digest}: ${read.length} of ${bytes.length} bytes`,
      );
    }
  }

  async #digests(): Promise<ReadonlySet<string>> {
    const infos = await Array.fromAsync(this.#content.list(this.#ctx));
    return new Set(infos.map(({ digest }) => digest));
  }

  /** Every committed snapshot mounts and shows the files of its layers. */
  async snapshots(): Promise<void> {
    const { images } = this.#started;
    const files = new Map(images.flatMap(({ chains }) => chains).map((c) => [c.name, c.files]));
    for (const [snapshotterName, snapshotter] of this.#snapshotters) {
      for (const { kind, name } of await this.#list(snapshotterName)) {
        if (kind !== "committed") continue;
        const expected = files.get(name);
        assert.ok(expected, `${name} is a chain of the images`);
        const view = `check ${name}`;
        const labels = { "containerd.io/gc.root": "while it is looked at" };
        const mounts = await snapshotter.view(this.#ctx, view, name, { labels });
        await this.#assertShows(mounts, expected, `${snapshotterName} ${name}`);
        await snapshotter.remove(this.#ctx, view);
      }
    }
  }

  /** Every container that is listed has its snapshot, which shows its image. */
  async containers(): Promise<void> {
    const { images, told } = this.#started;
    const listed = (await this.#listContainers()).map(({ id }) => id);
    for (const [id, fate] of told.containers) {
      if (fate === "unsure") told.containers.set(id, listed.includes(id) ? "here" : "gone");
      else assert.equal(listed.includes(id), fate === "here", `${id} was said to be ${fate}`);
    }
    for (const id of listed) {
      const image = images.find((one) => containerOf(one) === id);
      const snapshotter = image && this.#snapshotters.get(image.snapshotter);
      assert.ok(image && snapshotter, id);
      const info = await snapshotter.stat(this.#ctx, id);
      const top = image.chains.at(-1);
      assert.deepEqual([info.kind, info.parent], ["active", top?.name]);
      const mounts = await snapshotter.mounts(this.#ctx, id);
      await this.#assertShows(mounts, top?.files ?? new Map(), `${image.snapshotter} ${id}`);
    }
  }

  async #assertShows(
    mounts: readonly Mount[],
    expected: ReadonlyMap<string, Buffer>,
    what: string,
  ): Promise<void> {
    const mounter = new Mounter({ sys: linux, tempDir: this.#started.room.dir });
    await mounter.withTempMount(this.#ctx, mounts, async (dir) => {
      for (const [path, bytes] of expected) {
        const found = await readFile(join(dir, path));
        assert.ok(bytes.equals(found), `${what}: ${path}: ${found.length} of ${bytes.length}`);
      }
    });
  }

  /** What the backends' folders hold is what is recorded, and no snapshot is left of a container that is gone. */
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
    const containers = await this.#listContainers();
    // The only one whose removals leave something to do.
    await this.#snapshotters.get("overlayfs")?.cleanup(this.#ctx);
    for (const name of this.#snapshotters.keys()) {
      const snapshots = await this.#list(name);
      const directories = join(root, `io.containerd.snapshotter.v1.${name}/snapshots`);
      assert.equal((await readdir(directories)).length, snapshots.length, name);
      const inUse = snapshots.filter(({ kind }) => kind !== "committed");
      const owners = containers.filter(({ snapshotter }) => snapshotter === name);
      assert.deepEqual(
        inUse.map((one) => one.name).toSorted(),
        owners.map(({ id }) => id).toSorted(),
      );
    }
  }

  async #listContainers(): Promise<{ id: string; snapshotter: string }[]> {
    return (await createClient(Containers, this.#transport).list(this.#ctx, {})).containers;
  }

  #list(name: SnapshotterName): Promise<SnapshotInfo[]> {
    const snapshotter = this.#snapshotters.get(name);
    assert.ok(snapshotter);
    return Array.fromAsync(snapshotter.list(this.#ctx));
  }
}
