import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { GrpcSnapshotter } from "#core/snapshots/proxy.ts";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { StoreObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { isNotFound } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { CrashImage } from "#test/crash/crash-images.ts";
import { Random } from "#test/crash/random.ts";
import { anyName, importObject, storeObject } from "#test/integration/transfer/local-transfer.ts";
import type { Daemon } from "#test/support/daemon.ts";
import { hostPlatform } from "#test/support/images.ts";
import type { Room } from "#test/support/room.ts";

/** What a client was told last. Unsure while a call is under way, and after it failed. */
export type Fate = "here" | "gone" | "unsure";

/** By the names of images and the ids of containers. */
export interface Told {
  readonly images: Map<string, Fate>;
  readonly containers: Map<string, Fate>;
}

export interface WorkloadOptions {
  readonly room: Room;
  readonly daemon: Daemon;
  readonly images: readonly CrashImage[];
  readonly told: Told;
  readonly seed: number;
  /** Called at the moment the seed chooses; it ends the daemon. */
  readonly end: () => Promise<void>;
}

const actions = [
  "pull by the daemon",
  "pull by the daemon",
  "import by the daemon",
  "pull by ctr",
  "import by ctr",
  "remove",
  "remove, waiting for the collection",
  "make a container",
  "make a container",
  "remove the container",
  "collect",
] as const;

const workers = 3;
const noSpec = Buffer.from("{}");

/**
 * Pulls, imports, removes and collects, three at a time, until the daemon is ended in the middle of it. A call that
 * fails while the daemon should still serve fails the workload.
 */
export async function workload(options: WorkloadOptions): Promise<void> {
  const random = new Random(options.seed);
  const endAfter = random.below(10);
  const endDelayMs = random.below(120);
  const run = new Run(options, endAfter);
  const running = Array.from({ length: workers }, (_, worker) =>
    run.work(worker, new Random(options.seed * 1000 + worker)),
  );
  const failed = Promise.all(running).then(() => {});
  await Promise.race([run.enough, failed]);
  await delay(endDelayMs);
  run.ending = true;
  await options.end();
  // Clients of a daemon that is gone wait for its return.
  run.ended.abort();
  await Promise.all(running);
}

class Run {
  readonly enough: Promise<void>;
  ending = false;
  readonly ended = new AbortController();
  readonly #options: WorkloadOptions;
  readonly #enough: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #endAfter: number;
  #done = 0;

  constructor(options: WorkloadOptions, endAfter: number) {
    this.#options = options;
    this.#endAfter = endAfter;
    this.enough = this.#enough.promise;
    if (endAfter === 0) this.#enough.resolve();
  }

  /** Names belong to one worker each, so that what was told of one is in order; layers are everybody's. */
  async work(worker: number, random: Random): Promise<void> {
    const { images, daemon, room } = this.#options;
    const own = images.filter(({ index }) => index % workers === worker);
    await using transport = new GrpcTransport({ path: daemon.address });
    const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
    while (!this.ending) {
      const image = random.pick(own as [CrashImage, ...CrashImage[]]); // -- there are more images than workers
      const action = random.pick(actions);
      try {
        await this.#act(ctx, transport, { image, action, imported: random.below(2) === 1 });
      } catch (error) {
        if (this.ending) return;
        throw new Error(`${action} of ${image.index}\n${await daemon.log()}`, { cause: error });
      }
      if (++this.#done >= this.#endAfter) this.#enough.resolve();
    }
  }

  async #act(
    ctx: Context,
    transport: GrpcTransport,
    { image, action, imported }: { image: CrashImage; action: string; imported: boolean },
  ): Promise<void> {
    const { daemon } = this.#options;
    const { names, snapshotter } = image;
    const { signal } = this.ended;
    const into = ["--snapshotter", snapshotter];
    switch (action) {
      case "pull by the daemon":
        return this.#making(names.pulled, () => pull(ctx, transport, image, names.pulled));
      case "import by the daemon":
        return this.#making(names.imported, () => importArchive(ctx, transport, image));
      case "pull by ctr":
        return this.#making(names.pulled, async () => {
          await daemon.ctrOk(["images", "pull", "--plain-http", ...into, names.pulled], { signal });
        });
      case "import by ctr":
        return this.#making(names.imported, async () => {
          const file = join(this.#options.room.dir, `archive-${image.index}`);
          await writeFile(file, image.archive);
          await daemon.ctrOk(["images", "import", ...into, file], { signal });
        });
      case "make a container":
        return this.#makeContainer(ctx, transport, image);
      case "remove the container":
        return this.#removeContainer(ctx, transport, containerOf(image));
      case "collect":
        return collect(ctx, transport);
      default:
        return this.#remove(ctx, transport, {
          name: imported ? names.imported : names.pulled,
          sync: action !== "remove",
        });
    }
  }

  async #making(name: string, make: () => Promise<void>): Promise<void> {
    const { images } = this.#options.told;
    images.set(name, "unsure");
    await make();
    images.set(name, "here");
  }

  async #remove(
    ctx: Context,
    transport: GrpcTransport,
    { name, sync }: { name: string; sync: boolean },
  ): Promise<void> {
    const { images } = this.#options.told;
    if (images.get(name) !== "here") return;
    images.set(name, "unsure");
    await createClient(Images, transport).delete(ctx, { name, sync });
    images.set(name, "gone");
  }

  async #makeContainer(ctx: Context, transport: GrpcTransport, image: CrashImage): Promise<void> {
    const { images, containers } = this.#options.told;
    const id = containerOf(image);
    const isThere = Object.values(image.names).some((name) => images.get(name) === "here");
    if (!isThere || (containers.get(id) ?? "gone") !== "gone") return;
    containers.set(id, "unsure");
    await makeContainer(ctx, transport, image);
    containers.set(id, "here");
  }

  async #removeContainer(ctx: Context, transport: GrpcTransport, id: string): Promise<void> {
    const { containers } = this.#options.told;
    if (containers.get(id) !== "here") return;
    containers.set(id, "unsure");
    await createClient(Containers, transport).delete(ctx, { id });
    containers.set(id, "gone");
  }
}

/** An image has one container at a time, whose snapshot has its id too. */
export function containerOf({ index }: CrashImage): string {
  return `container-${index}`;
}

/** Its snapshot first, which only the lease holds until the record does. */
export async function makeContainer(
  ctx: Context,
  transport: GrpcTransport,
  image: CrashImage,
): Promise<void> {
  const id = containerOf(image);
  const { snapshotter, names } = image;
  const leases = createClient(Leases, transport);
  const { lease } = await leases.create(ctx, { id: "", labels: {} });
  const leased = ctx.withLease(lease?.id ?? "");
  const top = image.chains.at(-1)?.name ?? "";
  const snapshots = new GrpcSnapshotter(transport, snapshotter);
  // That of one that was removed, which no collection has taken yet.
  await snapshots.remove(leased, id).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
  });
  await snapshots.prepare(leased, id, top);
  const container = {
    id,
    image: names.pulled,
    runtime: { name: "io.containerd.runc.v2" },
    spec: { typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", value: noSpec },
    snapshotter,
    snapshotKey: id,
  };
  await createClient(Containers, transport).create(leased, { container });
  await leases.delete(ctx, { id: lease?.id ?? "" });
}

export async function pull(
  ctx: Context,
  transport: GrpcTransport,
  image: CrashImage,
  name: string,
): Promise<void> {
  const registry = { headers: {}, hostDir: "", credentials: undefined, defaultScheme: "http" };
  await new GrpcTransferrer(transport).transfer(
    ctx,
    { kind: "registry", reference: name, ...registry },
    storeObject({ name, platforms: [hostPlatform], unpacks: unpacksOf(image) }),
  );
}

async function importArchive(
  ctx: Context,
  transport: GrpcTransport,
  image: CrashImage,
): Promise<void> {
  const unpacks = unpacksOf(image);
  const store = storeObject({ references: [anyName], platforms: [hostPlatform], unpacks });
  await new GrpcTransferrer(transport).transfer(ctx, importObject(image.archive), store);
}

function unpacksOf({ snapshotter }: CrashImage): StoreObject["unpacks"] {
  return [{ platform: hostPlatform, snapshotter }];
}

/** A lease that ends in a collection is how a client asks for one. */
export async function collect(ctx: Context, transport: GrpcTransport): Promise<void> {
  const leases = createClient(Leases, transport);
  const { lease } = await leases.create(ctx, { id: "", labels: {} });
  await leases.delete(ctx, { id: lease?.id ?? "", sync: true });
}
