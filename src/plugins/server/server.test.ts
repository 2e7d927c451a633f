import assert from "node:assert/strict";
import { mkdtempDisposable, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { test } from "node:test";
import {
  HealthCheckResponse_ServingStatus as Status,
  Health,
} from "#api/grpc/health/v1/health_pb.ts";
import { Events } from "#api/services/events/v1/events_pb.ts";
import { Introspection } from "#api/services/introspection/v1/introspection_pb.ts";
import { Events as TtrpcEvents } from "#api/services/ttrpc/events/v1/events_pb.ts";
import { Version } from "#api/services/version/v1/version_pb.ts";
import { imageDelete } from "#core/events/convert.ts";
import { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import { Graph } from "#pkg/plugin/graph.ts";
import { type AnyPlugin, type ConfigTable, definePlugin, SkipPlugin } from "#pkg/plugin/plugin.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { exchange } from "#plugins/event/plugin.ts";
import { grpcServer, ttrpcServer } from "#plugins/server/plugin.ts";
import type { Server } from "#plugins/server/server.ts";
import { events } from "#plugins/services/events/plugin.ts";
import { healthcheck } from "#plugins/services/health/plugin.ts";
import { introspectionGrpc, introspectionService } from "#plugins/services/introspection/plugin.ts";
import { version } from "#plugins/services/version/plugin.ts";
import { deprecations } from "#plugins/services/warning/plugin.ts";
import { GrpcPlugin, ServerPlugin, SnapshotPlugin } from "#plugins/types.ts";

const ctx = Context.background();
const ns = ctx.withNamespace("ns");
const uid = process.geteuid?.() ?? 0;

interface Served extends AsyncDisposable {
  readonly dir: string;
  readonly graph: Graph;
  readonly grpc: GrpcTransport;
  ttrpc(): Promise<TtrpcTransport>;
}

/** A daemon of the plugins here and those given, on sockets of its own. */
async function serve(more: readonly AnyPlugin[] = [], peerUid: number = uid): Promise<Served> {
  await using stack = new AsyncDisposableStack();
  const { path: dir } = stack.use(await mkdtempDisposable(`${tmpdir()}/server-`));
  const sections: Record<string, ConfigTable> = {
    "io.containerd.server.v1.grpc": { address: `${dir}/s/g` },
    "io.containerd.server.v1.ttrpc": { address: `${dir}/s/t` },
  };
  const graph = stack.use(
    await Graph.start(ctx, {
      plugins: [
        exchange,
        deprecations,
        introspectionService,
        events,
        healthcheck,
        introspectionGrpc,
        version({ version: "v1.2.3", revision: "abc" }),
        ...more,
        grpcServer,
        ttrpcServer({ sys: { getPeerUid: () => peerUid } }),
      ],
      root: `${dir}/root`,
      state: `${dir}/state`,
      grpcAddress: `${dir}/s/g`,
      ttrpcAddress: `${dir}/s/t`,
      section: (id) => sections[id],
    }),
  );
  for (const { type, state, instance } of graph.records) {
    if (type !== ServerPlugin.name || state !== "started") continue;
    await (instance as Server).start(ctx); // -- what the type promises
  }
  const grpc = stack.use(new GrpcTransport({ path: `${dir}/s/g` }));
  const owned = stack.move();
  return {
    dir,
    graph,
    grpc,
    async ttrpc() {
      return owned.use(await TtrpcTransport.connect(ctx, `${dir}/s/t`));
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

test("sockets are for owner and group, and go with the daemon", async () => {
  let dir: string;
  {
    await using served = await serve();
    dir = served.dir;
    for (const name of ["g", "t"]) {
      assert.equal((await stat(`${dir}/s/${name}`)).mode & 0o777, 0o660);
    }
  }
  await assert.rejects(stat(`${dir}/s/g`), { code: "ENOENT" });
});

test("version and health answer", async () => {
  await using served = await serve();
  const build = await createClient(Version, served.grpc).version(ctx, {});
  assert.deepEqual([build.version, build.revision], ["v1.2.3", "abc"]);
  const health = createClient(Health, served.grpc);
  assert.equal((await health.check(ctx, {})).status, Status.SERVING);
  await assert.rejects(health.check(ctx, { service: "x" }), {
    code: "not-found",
    message: "unknown service",
  });
  for (const [service, status] of [
    ["", Status.SERVING],
    ["x", Status.SERVICE_UNKNOWN],
  ] as const) {
    for await (const update of health.watch(ctx, { service })) {
      assert.equal(update.status, status);
      break;
    }
  }
});

test("introspection shows every plugin, with what became of it", async () => {
  const skips = definePlugin({
    type: SnapshotPlugin,
    id: "zfs",
    requires: {},
    async init({ exports, platforms, capabilities }) {
      exports.set("root", "/z");
      platforms.push({ os: "linux", architecture: "arm", variant: "v7" });
      capabilities.push("remap-ids");
      throw new SkipPlugin("no zfs");
    },
  });
  const fails = definePlugin({
    type: GrpcPlugin,
    id: "broken",
    requires: {},
    async init() {
      throw new CodedError("unavailable", "disk is gone");
    },
  });
  await using served = await serve([skips, fails]);
  const client = createClient(Introspection, served.grpc);
  const { plugins } = await client.plugins(ctx, {});
  assert.deepEqual(
    plugins.map(({ type, id, requires, initErr }) => [type, id, requires, initErr?.code]),
    [
      ["io.containerd.event.v1", "exchange", [], undefined],
      ["io.containerd.warning.v1", "deprecations", [], undefined],
      [
        "io.containerd.service.v1",
        "introspection-service",
        ["io.containerd.warning.v1"],
        undefined,
      ],
      ["io.containerd.grpc.v1", "events", ["io.containerd.event.v1"], undefined],
      ["io.containerd.grpc.v1", "healthcheck", [], undefined],
      ["io.containerd.grpc.v1", "introspection", ["io.containerd.service.v1"], undefined],
      ["io.containerd.grpc.v1", "version", [], undefined],
      ["io.containerd.snapshotter.v1", "zfs", [], 2],
      ["io.containerd.grpc.v1", "broken", [], 14],
      [
        "io.containerd.server.v1",
        "grpc",
        ["io.containerd.grpc.v1", "io.containerd.metrics.v1"],
        undefined,
      ],
      [
        "io.containerd.server.v1",
        "ttrpc",
        ["io.containerd.ttrpc.v1", "io.containerd.grpc.v1"],
        undefined,
      ],
    ],
  );
  const { plugins: filtered } = await client.plugins(ctx, { filters: ["id==zfs"] });
  assert.equal(filtered.length, 1);
  assert.equal(filtered[0]?.initErr?.message, "no zfs: skip plugin");
  assert.deepEqual(filtered[0]?.exports, { root: "/z" });
  assert.deepEqual(filtered[0]?.capabilities, ["remap-ids"]);
  assert.deepEqual(
    [filtered[0]?.platforms[0]?.architecture, filtered[0]?.platforms[0]?.variant],
    ["arm", "v7"],
  );
  await assert.rejects(client.plugins(ctx, { filters: ["id="] }), { code: "invalid-argument" });
});

test("the server's identity and a plugin's own information go over the wire", async () => {
  await using served = await serve();
  const client = createClient(Introspection, served.grpc);
  const first = await client.server(ctx, {});
  assert.match(first.uuid, /^[0-9a-f-]{36}$/);
  assert.equal(first.pid, BigInt(process.pid));
  assert.equal((await client.server(ctx, {})).uuid, first.uuid);
  const type = "io.containerd.event.v1";
  const info = await client.pluginInfo(ctx, { type, id: "exchange" });
  assert.equal(info.plugin?.id, "exchange");
  await assert.rejects(client.pluginInfo(ctx, { type, id: "x" }), { code: "not-found" });
  await assert.rejects(client.pluginInfo(ctx, { type, id: "exchange", options: {} }), {
    code: "not-implemented",
  });
});

test("events: what is published by gRPC and forwarded by ttrpc reaches a subscriber", async () => {
  await using served = await serve();
  const client = createClient(Events, served.grpc);
  const { typeUrl, value } = imageDelete({ name: "i" });
  const subscription = client.subscribe(ctx, { filters: ["topic~=|^/t/|,event.name==i"] });
  const received = subscription[Symbol.asyncIterator]();
  // The subscription stands once an event has come through.
  const first = take(received);
  while (await isPending(first)) {
    await client.publish(ns, { topic: "/t/first", event: { typeUrl, value } });
  }
  assert.equal((await first).topic, "/t/first");
  await client.publish(ns, { topic: "/other", event: { typeUrl, value } });
  const ttrpc = createClient(TtrpcEvents, await served.ttrpc());
  await ttrpc.forward(ctx, {
    envelope: {
      timestamp: { seconds: 5n, nanos: 7 },
      namespace: "k8s.io",
      topic: "/t/forwarded",
      event: { typeUrl: `type.googleapis.com/${typeUrl}`, value },
    },
  });
  let envelope = await take(received);
  while (envelope.topic === "/t/first") envelope = await take(received);
  assert.deepEqual(
    [envelope.topic, envelope.namespace, envelope.timestamp?.seconds, envelope.timestamp?.nanos],
    ["/t/forwarded", "k8s.io", 5n, 7],
  );
  assert.deepEqual(envelope.event?.typeUrl, typeUrl);
  await received.return?.();
});

test("events: what is not well formed is refused with upstream's words", async () => {
  await using served = await serve();
  const client = createClient(Events, served.grpc);
  await assert.rejects(client.publish(ctx, { topic: "/t" }), {
    code: "failed-precondition",
    message: "failed publishing event: namespace is required: failed precondition",
  });
  await assert.rejects(client.publish(ns, { topic: "t" }), {
    code: "invalid-argument",
    message: "envelope topic \"t\": must start with '/': invalid argument",
  });
  await assert.rejects(client.forward(ctx, { envelope: { namespace: "a", topic: "/t" } }), {
    code: "invalid-argument",
    message: "timestamp must be set on forwarded event: invalid argument",
  });
  await assert.rejects(client.forward(ctx, {}), { code: "invalid-argument" });
  await assert.rejects(Array.fromAsync(client.subscribe(ctx, { filters: ["="] })), {
    code: "invalid-argument",
    message: /^failed parsing subscription filters: filters: parse error: /,
  });
});

test("stopping ends subscriptions, so that nothing waits for them", async () => {
  await using served = await serve();
  const subscription = createClient(Events, served.grpc).subscribe(ctx, {});
  const first = subscription[Symbol.asyncIterator]().next();
  await createClient(Version, served.grpc).version(ctx, {});
  await served.graph.stop();
  assert.equal((await first.catch(() => ({ done: true }))).done, true);
});

test("ttrpc serves nobody but the daemon's own user", async () => {
  await using served = await serve([], uid + 1);
  const client = createClient(TtrpcEvents, await served.ttrpc());
  await assert.rejects(client.forward(ctx, {}), { code: "unavailable" });
});

/** The next of a stream that must not end. */
async function take<T>(from: AsyncIterator<T, unknown>): Promise<T> {
  const result = await from.next();
  assert.ok(result.done !== true);
  return result.value;
}

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const pending = {};
  return (await Promise.race([promise, Promise.resolve(pending)])) === pending;
}
