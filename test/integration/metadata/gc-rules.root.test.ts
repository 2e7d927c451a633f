import assert from "node:assert/strict";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Content } from "#api/services/content/v1/content_pb.ts";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { Snapshots } from "#api/services/snapshots/v1/snapshots_pb.ts";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { Context } from "#pkg/context.ts";
import { digestOf } from "#pkg/digest.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { daemonKind, startDaemon } from "#test/support/daemon.ts";
import { newerProgram } from "#test/support/debian.ts";
import { type Room, roomTest } from "#test/support/room.ts";

// What a collection leaves, as clients see it. Runs on Go's containerd 2.x too (CONTAINERD_TEST_DAEMON=go), without
// what its 2.1 does not know yet: back references.

type Labels = Readonly<Record<string, string>>;

const snapshotter = "native";
const root = { "containerd.io/gc.root": "2026-01-01T00:00:00Z" };
const expired = { "containerd.io/gc.expire": "2001-01-01T00:00:00Z" };
const refersTo = (text: string): Labels => ({ "containerd.io/gc.ref.content.x": digestOf(text) });
const refersBackTo = (kind: string, key: string): Labels => ({
  [`containerd.io/gc.bref.${kind}.x`]: key,
});

/** By the text of a blob: its labels, and whether it is there after the collection. */
const blobs: Readonly<Record<string, readonly [labels: Labels, kept: boolean]>> = {
  alone: [{}, false],
  "a root": [{ ...root, ...refersTo("of a root") }, true],
  "of a root": [refersTo("of one of a root"), true],
  "of one of a root": [{}, true],
  "refers to a root": [refersTo("a root"), false],
  "behind a root": [refersBackTo("content", digestOf("a root")), true],
  "behind nothing": [refersBackTo("content", digestOf("never there")), false],
  "behind an image": [refersBackTo("image", "image"), true],
  "behind a container": [refersBackTo("container", "container"), true],
  "of an image": [{}, true],
  "of an expired image": [{}, false],
  "of an expired image that a root names": [{}, true],
  "names an image": [{ ...root, "containerd.io/gc.ref.image.x": "named" }, true],
  "names a snapshot": [
    { ...root, [`containerd.io/gc.ref.snapshot.${snapshotter}`]: "named" },
    true,
  ],
  leased: [refersTo("of a leased one"), true],
  "of a leased one": [{}, true],
  "leased flat": [refersTo("of one leased flat"), true],
  "of one leased flat": [{}, false],
  "of an expired lease": [{}, false],
};
const leases: Readonly<Record<string, readonly [labels: Labels, held: string]>> = {
  live: [{}, "leased"],
  flat: [{ "containerd.io/gc.flat": "yes" }, "leased flat"],
  over: [expired, "of an expired lease"],
};
const images: Readonly<Record<string, readonly [labels: Labels, target: string, kept: boolean]>> = {
  image: [{}, "of an image", true],
  over: [expired, "of an expired image", false],
  named: [expired, "of an expired image that a root names", true],
};
/** Each on the one before, the first on nothing: a chain is kept up to the highest that is. */
const chains: readonly (readonly [chain: readonly string[], labels: Labels, kept: number])[] = [
  [["named"], {}, 1],
  [["below a root", "root"], root, 2],
  [["base", "of a container", "above"], {}, 2],
  [["unnamed"], {}, 0],
];

const tried = Object.entries(blobs).filter(
  ([text]) => daemonKind() === "ours" || !text.includes("behind"),
);

interface Clients {
  readonly ctx: Context;
  readonly store: ProxyContentStore;
  readonly content: Client<typeof Content>;
  readonly leases: Client<typeof Leases>;
  readonly images: Client<typeof Images>;
  readonly snapshots: Client<typeof Snapshots>;
  readonly containers: Client<typeof Containers>;
}

async function connect(room: Room): Promise<Clients> {
  const kind = daemonKind();
  const more = kind === "go" ? { goProgram: newerProgram("sid", "containerd") } : {};
  const daemon = await startDaemon(room, { kind, ...more });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  return {
    ctx: Context.background({ signal: room.signal, namespace: room.namespace }),
    store: new ProxyContentStore(transport),
    content: createClient(Content, transport),
    leases: createClient(Leases, transport),
    images: createClient(Images, transport),
    snapshots: createClient(Snapshots, transport),
    containers: createClient(Containers, transport),
  };
}

async function write(
  { store }: Clients,
  ctx: Context,
  ref: string,
  labels?: Labels,
): Promise<void> {
  await using writer = await store.writer(ctx, { ref });
  await writer.write(Buffer.from(ref));
  if (labels) await writer.commit(ctx, { expected: digestOf(ref), labels });
}

/** Everything above; `held` has a lease, so that no collection comes in between. */
async function makeAll(clients: Clients, held: Context): Promise<void> {
  const { ctx } = clients;
  for (const [text, [labels]] of tried) await write(clients, held, text, labels);
  for (const [id, [labels, text]] of Object.entries(leases)) {
    await clients.leases.create(ctx, { id, labels });
    const resource = { id: digestOf(text), type: "content" };
    await clients.leases.addResource(ctx, { id, resource });
  }
  for (const [name, [labels, text]] of Object.entries(images)) {
    const target = { mediaType: "m", digest: digestOf(text), size: BigInt(text.length) };
    await clients.images.create(held, { image: { name, labels, target } });
  }
  for (const [chain, labels] of chains) {
    for (const [i, name] of chain.entries()) {
      const key = `making ${name}`;
      await clients.snapshots.prepare(held, { snapshotter, key, parent: chain[i - 1] ?? "" });
      const own = name === "root" ? labels : {};
      await clients.snapshots.commit(held, { snapshotter, name, key, labels: own });
    }
  }
  const container = {
    id: "container",
    runtime: { name: "io.containerd.runc.v2" },
    spec: { typeUrl: "t", value: new Uint8Array([1]) },
    snapshotter,
    snapshotKey: "of a container",
  };
  await clients.containers.create(ctx, { container });
  // Without a lease an ingest has a day; one of a lease ends with it.
  await write(clients, ctx, "ingest");
  await write(clients, held, "leased ingest");
}

async function assertLeft({ ctx, ...clients }: Clients): Promise<void> {
  const digests = new Map(tried.map(([text]) => [String(digestOf(text)), text]));
  const there = await Array.fromAsync(clients.store.list(ctx), ({ digest }) => {
    return digests.get(digest) ?? "something else";
  });
  const kept = tried.filter(([, [, isKept]]) => isKept);
  assert.deepEqual(there.toSorted(), kept.map(([text]) => text).toSorted());
  const leased = (await clients.leases.list(ctx, { filters: [] })).leases.map(({ id }) => id);
  assert.deepEqual(leased.toSorted(), ["flat", "live"]);
  const named = (await clients.images.list(ctx, {})).images.map(({ name }) => name);
  const keptImages = Object.entries(images).filter(([, [, , isKept]]) => isKept);
  assert.deepEqual(named.toSorted(), keptImages.map(([name]) => name).toSorted());
  const stacked: string[] = [];
  for await (const { info } of clients.snapshots.list(ctx, { snapshotter })) {
    stacked.push(...info.map(({ name }) => name));
  }
  const keptSnapshots = chains.flatMap(([chain, , count]) => chain.slice(0, count));
  assert.deepEqual(stacked.toSorted(), keptSnapshots.toSorted());
  const { statuses } = await clients.content.listStatuses(ctx, {});
  assert.deepEqual(
    statuses.map(({ ref }) => ref),
    ["ingest"],
  );
}

roomTest(
  "a collection leaves what something keeps, and nothing else",
  async (room) => {
    const clients = await connect(room);
    const { ctx } = clients;
    await clients.leases.create(ctx, { id: "hold", labels: {} });
    await makeAll(clients, ctx.withLease("hold"));
    await clients.leases.delete(ctx, { id: "hold", sync: true });
    await assertLeft(clients);
  },
  { needs: daemonKind() === "go" ? ["sid"] : [] },
);
