import assert from "node:assert/strict";
import type { DescService } from "@bufbuild/protobuf";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Content } from "#api/services/content/v1/content_pb.ts";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { Namespaces } from "#api/services/namespaces/v1/namespace_pb.ts";
import { Snapshots } from "#api/services/snapshots/v1/snapshots_pb.ts";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { Context } from "#pkg/context.ts";
import { type Digest, digestOf } from "#pkg/digest.ts";
import { codeOf, type ErrorCode } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { daemonKind, startDaemon } from "#test/support/daemon.ts";
import { type Room, roomTest } from "#test/support/room.ts";

// What clients see of the metadata services; runs on Go's containerd too (CONTAINERD_TEST_DAEMON=go).

const snapshotter = "native";
const held = { "containerd.io/gc.root": "2026-01-01T00:00:00Z" };

interface Wire {
  readonly ctx: Context;
  readonly transport: GrpcTransport;
  readonly client: <S extends DescService>(desc: S) => Client<S>;
  readonly put: (
    ctx: Context,
    text: string,
    labels?: Readonly<Record<string, string>>,
  ) => Promise<Digest>;
}

async function connect(room: Room, config = ""): Promise<Wire> {
  const daemon = await startDaemon(room, { kind: daemonKind(), config });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const store = new ProxyContentStore(transport);
  return {
    ctx: Context.background().withNamespace(room.namespace),
    transport,
    client: (desc) => createClient(desc, transport),
    async put(ctx, text, labels = held) {
      const bytes = Buffer.from(text);
      await using writer = await store.writer(ctx, { ref: `put ${text}` });
      await writer.write(bytes);
      return writer.commit(ctx, { expected: digestOf(bytes), labels });
    },
  };
}

async function refused(call: Promise<unknown>, code: ErrorCode, message?: RegExp): Promise<void> {
  await assert.rejects(call, (error: Error) => {
    assert.equal(codeOf(error), code, error.message);
    if (message) assert.match(error.message, message);
    return true;
  });
}

const targetOf = (digest: string) => ({ mediaType: "m", digest, size: 1n, annotations: {} });
const spec = { typeUrl: "t", value: new Uint8Array([1]) };
const runtime = { name: "io.containerd.runc.v2" };
const mask = (...paths: string[]) => ({ paths });

roomTest("labels are at most 4096 bytes with their keys, whatever they are on", async (room) => {
  const { ctx, client, put } = await connect(room);
  const [images, containers, snapshots] = [client(Images), client(Containers), client(Snapshots)];
  const [namespaces, content] = [client(Namespaces), client(Content)];
  const digest = await put(ctx, "blob");
  const fits = { k: "v".repeat(4095), ...held };
  const exceeds = { k: "v".repeat(4096), ...held };
  const words = /label key and value .*greater than maximum size \(4096 bytes\), key: k/;
  const image = { name: "i", target: targetOf(digest) };
  await images.create(ctx, { image: { ...image, labels: fits } });
  await refused(
    images.create(ctx, { image: { ...image, name: "j", labels: exceeds } }),
    "invalid-argument",
    words,
  );
  await refused(
    images.update(ctx, { image: { ...image, labels: exceeds }, updateMask: mask("labels") }),
    "invalid-argument",
    words,
  );
  const container = { id: "c", runtime, spec };
  await containers.create(ctx, { container: { ...container, labels: fits } });
  const twin = { ...container, id: "d", labels: exceeds };
  await refused(containers.create(ctx, { container: twin }), "invalid-argument", words);
  await snapshots.prepare(ctx, { snapshotter, key: "s", labels: fits });
  const large = snapshots.prepare(ctx, { snapshotter, key: "t", labels: exceeds });
  await refused(large, "invalid-argument", words);
  const info = { digest, labels: exceeds };
  await refused(content.update(ctx, { info }), "invalid-argument", words);
  await refused(
    namespaces.create(ctx, { namespace: { name: `${room.namespace}x`, labels: exceeds } }),
    "invalid-argument",
    words,
  );
  await snapshots.remove(ctx, { snapshotter, key: "s" });
  await containers.delete(ctx, { id: "c" });
});

roomTest(
  "updates change what their masks name, and refuse what cannot be changed",
  async (room) => {
    const { ctx, client, put } = await connect(room);
    const [images, containers, snapshots] = [client(Images), client(Containers), client(Snapshots)];
    const [namespaces, content] = [client(Namespaces), client(Content)];
    const digest = await put(ctx, "blob", { ...held, a: "1", "b.c": "2" });

    const info = { digest, labels: { "b.c": "3", z: "4" } };
    const one = await content.update(ctx, { info, updateMask: mask("labels.b.c") });
    assert.deepEqual(one.info?.labels, { ...held, a: "1", "b.c": "3" });
    const gone = await content.update(ctx, { info: { digest }, updateMask: mask("labels.a") });
    assert.deepEqual(gone.info?.labels, { ...held, "b.c": "3" });
    await refused(
      content.update(ctx, { info, updateMask: mask("size") }),
      "invalid-argument",
      /cannot update "size" field on content info/,
    );
    const all = await content.update(ctx, { info: { digest, labels: { ...held, q: "5" } } });
    assert.deepEqual(all.info?.labels, { ...held, q: "5" });
    await refused(content.update(ctx, { info: { digest: digestOf("none") } }), "not-found");

    const image = { name: "i", labels: { a: "1", b: "2" }, target: targetOf(digest) };
    await images.create(ctx, { image });
    const updated = await images.update(ctx, {
      image: { name: "i", labels: { a: "9", c: "3" } },
      updateMask: mask("labels.c", "labels.b"),
    });
    assert.deepEqual(updated.image?.labels, { a: "1", c: "3" });
    assert.equal(updated.image?.target?.digest, digest);
    await refused(
      images.update(ctx, { image, updateMask: mask("name") }),
      "invalid-argument",
      /cannot update "name" field on image "i"/,
    );
    await refused(images.update(ctx, { image: { ...image, name: "none" } }), "not-found");

    const container = { id: "c", runtime, spec, image: "i", labels: { a: "1" } };
    await containers.create(ctx, { container });
    const { container: changed } = await containers.update(ctx, {
      container: { ...container, image: "j", labels: { a: "2", b: "3" } },
      updateMask: mask("labels.b", "image"),
    });
    assert.deepEqual([changed?.image, changed?.labels], ["j", { a: "1", b: "3" }]);
    for (const path of ["runtime.name", "snapshotter", "id", "createdat"]) {
      await refused(
        containers.update(ctx, { container, updateMask: mask(path) }),
        "invalid-argument",
        new RegExp(`cannot update "${path}" field on "c"`),
      );
    }
    await refused(
      containers.update(ctx, { container: { ...container, runtime: { name: "other" } } }),
      "invalid-argument",
      /container.Runtime.Name field is immutable/,
    );

    await snapshots.prepare(ctx, { snapshotter, key: "s", labels: { a: "1", ...held } });
    const { info: shown } = await snapshots.update(ctx, {
      snapshotter,
      info: { name: "s", labels: { b: "2" } },
      updateMask: mask("labels.b"),
    });
    assert.deepEqual(shown?.labels, { a: "1", b: "2", ...held });
    await refused(
      snapshots.update(ctx, { snapshotter, info: { name: "s" }, updateMask: mask("parent") }),
      "invalid-argument",
      /cannot update "parent" field on snapshot "s"/,
    );

    const name = `${room.namespace}x`;
    await namespaces.create(ctx, { namespace: { name, labels: { a: "1", b: "2" } } });
    const namespace = { name, labels: { a: "9", "containerd.io/defaults/snapshotter": "native" } };
    const paths = mask("labels.containerd.io/defaults/snapshotter", "labels.b");
    await namespaces.update(ctx, { namespace, updateMask: paths });
    const { namespace: after } = await namespaces.get(ctx, { name });
    assert.deepEqual(after?.labels, { a: "1", "containerd.io/defaults/snapshotter": "native" });
    await refused(
      namespaces.update(ctx, { namespace, updateMask: mask("name") }),
      "invalid-argument",
      /cannot update "name" field/,
    );
    await namespaces.delete(ctx, { name });
    await snapshots.remove(ctx, { snapshotter, key: "s" });
    await containers.delete(ctx, { id: "c" });
  },
);

roomTest(
  'filters quote with ", | and /, and choose by presence, equality and pattern',
  async (room) => {
    const { ctx, client } = await connect(room);
    const images = client(Images);
    for (const [name, labels] of [
      ["docker.io/library/a:1", { "a.b": "x|y", v: "1" }],
      ["docker.io/library/b:1", { "a.b": 'q"t', v: "2" }],
      ["quay.io/c:1", { v: "12" }],
    ] as const) {
      await images.create(ctx, { image: { name, labels, target: targetOf(digestOf(name)) } });
    }
    const found = async (...filters: string[]): Promise<string> => {
      const { images: all } = await images.list(ctx, { filters });
      return all.map(({ name }) => name.replace(/.*\//, "").replace(/:.*/, "")).join("");
    };
    for (const [filter, names] of [
      ["name~=^docker", "ab"],
      ["name~=|^quay.io/|", "c"],
      ["name~=/y.b/", "b"],
      ['name~="^docker.io/library/[b-z]"', "b"],
      ['labels."a.b"', "ab"],
      ['labels."a.b"=="x|y"', "a"],
      ['labels."a.b"=="q\\"t"', "b"],
      ["labels.v!=1", "bc"],
      ["labels.v==1,name~=library", "a"],
      ["labels.v~=^1", "ac"],
      ["labels.none", ""],
      [`target.digest==${digestOf("quay.io/c:1")}`, "c"],
      ["target.mediatype==m", "abc"],
    ] as const) {
      assert.equal(await found(filter), names, `filter ${filter}`);
    }
    assert.equal(await found("labels.v==1", "labels.v==12"), "ac");
    for (const bad of ["name==", "name=a", "==a", "name~=|a", 'labels."a', "name==a,"]) {
      await refused(found(bad), "invalid-argument");
    }
  },
);

roomTest("leases hold resources of every type, until they expire or are deleted", async (room) => {
  const { ctx, client, put } = await connect(room);
  const [leases, content, snapshots] = [client(Leases), client(Content), client(Snapshots)];
  const { lease } = await leases.create(ctx, { labels: { a: "1" } });
  assert.match(lease?.id ?? "", /^\d+-.{4}$/);
  await leases.create(ctx, { id: "l", labels: {} });
  await refused(leases.create(ctx, { id: "l" }), "already-exists", /lease "l": already exists/);
  const digest = await put(ctx, "leased", {});
  await snapshots.prepare(ctx, { snapshotter, key: "s" });
  const resources = [
    { type: "content", id: digest },
    // Since containerd 1.7; Debian's is older.
    ...(daemonKind() === "go" ? [] : [{ type: "images", id: "docker.io/library/i:1" }]),
    { type: "ingests", id: "some ref" },
    { type: `snapshots/${snapshotter}`, id: "s" },
  ];
  for (const resource of resources) await leases.addResource(ctx, { id: "l", resource });
  // To add one again changes nothing.
  await leases.addResource(ctx, { id: "l", resource: { type: "content", id: digest } });
  const listed = await leases.listResources(ctx, { id: "l" });
  assert.deepEqual(
    listed.resources.map(({ type, id }) => ({ type, id })),
    resources,
  );
  const bad = (type: string, id: string) =>
    leases.addResource(ctx, { id: "l", resource: { type, id } });
  await refused(bad("mounts/x", "a"), "not-implemented");
  await refused(bad("content", "no digest"), "invalid-argument");
  await refused(bad("content/x", digest), "invalid-argument");
  await refused(bad("snapshots", "s"), "invalid-argument");
  const ofNone = { id: "none", resource: { type: "content", id: digest } };
  await refused(leases.addResource(ctx, ofNone), "not-found");
  await refused(leases.listResources(ctx, { id: "none" }), "not-found");
  await refused(leases.delete(ctx, { id: "none" }), "not-found", /lease "none": not found/);
  const { leases: byLabel } = await leases.list(ctx, { filters: ["labels.a==1"] });
  assert.deepEqual(
    byLabel.map(({ id }) => id),
    [lease?.id],
  );
  const { leases: byId } = await leases.list(ctx, { filters: ["id==l"] });
  assert.deepEqual(
    byId.map(({ id }) => id),
    ["l"],
  );

  // A collection that is waited for leaves what is leased, and takes it with the lease.
  await leases.delete(ctx, { id: lease?.id ?? "", sync: true });
  assert.equal((await content.info(ctx, { digest })).info?.digest, digest);
  await leases.deleteResource(ctx, { id: "l", resource: { type: "content", id: digest } });
  await leases.create(ctx, {
    id: "expired",
    labels: { "containerd.io/gc.expire": "2020-01-02T03:04:05Z" },
  });
  await leases.addResource(ctx, { id: "expired", resource: { type: "content", id: digest } });
  await leases.create(ctx, { id: "m" });
  await leases.delete(ctx, { id: "m", sync: true });
  await refused(content.info(ctx, { digest }), "not-found");
  const { leases: left } = await leases.list(ctx, {});
  assert.deepEqual(
    left.map(({ id }) => id),
    ["l"],
  );
  assert.equal((await snapshots.stat(ctx, { snapshotter, key: "s" })).info?.name, "s");
  await leases.delete(ctx, { id: "l", sync: true });
  await refused(snapshots.stat(ctx, { snapshotter, key: "s" }), "not-found");
});

roomTest(
  "a call under a lease adds what it makes, and under none that is there fails",
  async (room) => {
    const { ctx, client, put } = await connect(room);
    const [leases, snapshots] = [client(Leases), client(Snapshots)];
    await leases.create(ctx, { id: "l" });
    const leased = ctx.withLease("l");
    const digest = await put(leased, "under a lease", {});
    await snapshots.prepare(leased, { snapshotter, key: "s" });
    const { resources } = await leases.listResources(ctx, { id: "l" });
    assert.deepEqual(
      resources.map(({ type, id }) => `${type} ${id}`),
      [`content ${digest}`, `snapshots/${snapshotter} s`],
    );
    const none = ctx.withLease("none");
    await refused(
      snapshots.prepare(none, { snapshotter, key: "t" }),
      "not-found",
      /lease does not exist/,
    );
    await refused(put(none, "more", {}), "not-found", /lease does not exist/);
    await snapshots.commit(leased, { snapshotter, name: "committed", key: "s" });
    const after = await leases.listResources(ctx, { id: "l" });
    assert.deepEqual(
      after.resources.map(({ type, id }) => `${type} ${id}`),
      [`content ${digest}`, `snapshots/${snapshotter} committed`],
    );
    await leases.delete(ctx, { id: "l", sync: true });
  },
);

roomTest("lists come in messages of a hundred", async (room) => {
  const { ctx, client, put } = await connect(room);
  const [content, snapshots] = [client(Content), client(Snapshots)];
  for (let i = 0; i < 101; i++) {
    await put(ctx, `blob ${i}`);
    await snapshots.prepare(ctx, { snapshotter, key: `s${i}`, labels: held });
  }
  const sizes: number[] = [];
  for await (const { info } of content.list(ctx, {})) sizes.push(info.length);
  assert.deepEqual(sizes, [100, 1]);
  sizes.length = 0;
  for await (const { info } of snapshots.list(ctx, { snapshotter })) sizes.push(info.length);
  assert.deepEqual(sizes, [100, 1]);
  for (let i = 0; i < 101; i++) await snapshots.remove(ctx, { snapshotter, key: `s${i}` });
});

for (const policy of ["shared", "isolated"] as const) {
  roomTest(
    `content_sharing_policy ${policy}: what the digest of another's blob is good for`,
    async (room) => {
      const config = `[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = "${policy}"\n`;
      const { ctx, transport, put } = await connect(room, config);
      const digest = await put(ctx, "secret");
      const other = ctx.withNamespace(`${room.namespace}x`);
      const store = new ProxyContentStore(transport);
      await refused(store.info(other, digest), "not-found");
      await using writer = await store.writer(other, { ref: "r", totalBytes: 6, expected: digest });
      assert.equal(writer.status().offset, policy === "shared" ? 6 : 0);
      const commit = writer.commit(other, { sizeBytes: 6, expected: digest, labels: held });
      if (policy === "isolated") {
        await refused(commit, "failed-precondition");
        await refused(store.info(other, digest), "not-found");
        await put(other, "secret");
      } else await commit;
      assert.equal((await store.info(other, digest)).sizeBytes, 6);
    },
  );
}
