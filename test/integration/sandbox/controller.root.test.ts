import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";
import { GrpcSandboxController } from "#core/sandbox/controller-proxy.ts";
import { GrpcSandboxStore } from "#core/sandbox/store-proxy.ts";
import { sandboxControllerSuite, sandboxOf, sandboxStoreSuite } from "#core/sandbox/suite.ts";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { whyNot } from "#test/support/needs.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { openRoom, type Room, roomTest } from "#test/support/room.ts";
import { installSandboxShim } from "#test/support/sandbox-shim/install.ts";

interface Bench {
  readonly daemon: Daemon;
  readonly ctx: Context;
  readonly controller: GrpcSandboxController;
  readonly store: GrpcSandboxStore;
  readonly runtime: string;
}

const bundlesOf = (daemon: Daemon, { namespace = "" }: Context): string =>
  join(daemon.state, "io.containerd.sandbox.controller.v1.shim", namespace);

async function shimPid(daemon: Daemon, ctx: Context, id: string): Promise<number> {
  return Number(await readFile(join(bundlesOf(daemon, ctx), id, "shim.pid"), "utf8"));
}

async function bench(room: Room): Promise<Bench> {
  const runtime = await installSandboxShim(room.dir);
  const daemon = await startDaemon(room, { env: { SANDBOX_SHIM_DIR: room.dir } });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  return {
    daemon,
    ctx: Context.background().withNamespace(room.namespace),
    controller: new GrpcSandboxController(transport, "shim"),
    store: new GrpcSandboxStore(transport),
    runtime,
  };
}

const needs = whyNot(["root"]);
let shared: Bench | undefined;
let close = async (): Promise<void> => {};

/** The suites' tests share a daemon: each leaves it as it was, in a namespace of its own. */
before(async () => {
  if (needs !== undefined) return;
  const opened = await openRoom();
  ({ close } = opened);
  shared = await bench(opened.room);
});
after(() => close());

let serial = 0;

function under(): Bench {
  assert.ok(shared);
  const namespace = `${shared.ctx.namespace}-${serial++}`;
  return { ...shared, ctx: Context.background().withNamespace(namespace) };
}

sandboxStoreSuite(
  "daemon",
  async (t) => {
    const { ctx, store } = under();
    t.after(async () => {
      for (const { id } of await store.list(ctx)) await store.delete(ctx, id);
    });
    return { ctx, store };
  },
  { needs },
);

sandboxControllerSuite(
  "daemon",
  async () => {
    const { ctx, controller, runtime, daemon } = under();
    return {
      ctx,
      controller,
      runtime,
      killShim: async (id) => {
        process.kill(await shimPid(daemon, ctx, id), "SIGKILL");
      },
    };
  },
  { needs, servesPlatform: daemonKind() === "ours" },
);

roomTest("a sandbox goes on while its daemon is killed and started again", async (room) => {
  const { daemon, ctx, controller, store, runtime } = await bench(room);
  const pod = sandboxOf("pod", { runtime: { name: runtime, options: undefined } });
  await store.create(ctx, pod);
  await controller.create(ctx, pod);
  const { pid } = await controller.start(ctx, "pod");
  await daemon.crash();
  await daemon.start();
  const status = await controller.status(ctx, "pod");
  assert.deepEqual([status.state, status.pid], ["running", pid]);
  const exited = controller.wait(ctx, "pod");
  await controller.stop(ctx, "pod", { timeoutMs: 2_000 });
  assert.equal((await exited).exitStatus, 2);
  await controller.shutdown(ctx, "pod");
  await until("the shim ends", async () => (await processInfo(pid)) === undefined);
  assert.deepEqual(await readdir(bundlesOf(daemon, ctx)), []);
  await store.delete(ctx, "pod");
});

roomTest("a sandbox whose shim died with the daemon is cleaned up after", async (room) => {
  const { daemon, ctx, controller, store, runtime } = await bench(room);
  const pod = sandboxOf("pod", { runtime: { name: runtime, options: undefined } });
  await store.create(ctx, pod);
  await controller.create(ctx, pod);
  await daemon.crash();
  process.kill(await shimPid(daemon, ctx, "pod"), "SIGKILL");
  await daemon.start();
  assert.equal((await controller.status(ctx, "pod")).state, "");
  assert.deepEqual(await readdir(bundlesOf(daemon, ctx)), []);
  await store.delete(ctx, "pod");
});
