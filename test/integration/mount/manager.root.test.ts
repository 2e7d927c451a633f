import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Introspection } from "#api/services/introspection/v1/introspection_pb.ts";
import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { RuntimeInfoSchema, RuntimeRequestSchema } from "#api/types/introspection_pb.ts";
import { mountMessage } from "#core/mount/convert.ts";
import { GrpcMountManager } from "#core/mount/manager-proxy.ts";
import type { Mount } from "#core/mount/mount.ts";
import { mountManagerSuite, mountOf } from "#core/mount/suite.ts";
import { GrpcSandboxController } from "#core/sandbox/controller-proxy.ts";
import { GrpcSandboxStore } from "#core/sandbox/store-proxy.ts";
import { sandboxOf } from "#core/sandbox/suite.ts";
import { Context } from "#pkg/context.ts";
import { codeOf, type ErrorCode } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { FS_MAGIC } from "#pkg/sys/constants.ts";
import { linux } from "#pkg/sys/linux.ts";
import { type Daemon, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { whyNot } from "#test/support/needs.ts";
import { openRoom, type Room, roomTest } from "#test/support/room.ts";
import { installSandboxShim } from "#test/support/sandbox-shim/install.ts";

interface Bench {
  readonly daemon: Daemon;
  readonly ctx: Context;
  readonly transport: GrpcTransport;
  readonly manager: GrpcMountManager;
}

/** Else one of the shared daemon's would appear in the middle of another test. */
const noStandby = '[plugins."io.containerd.shim.v1.manager"]\n  standby = false\n';

async function bench(room: Room, env: Readonly<Record<string, string>> = {}): Promise<Bench> {
  const daemon = await startDaemon(room, { env, config: noStandby });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  return {
    daemon,
    transport,
    ctx: Context.background().withNamespace(room.namespace),
    manager: new GrpcMountManager(transport),
  };
}

const targetsOf = ({ state }: Daemon): string =>
  join(state, "io.containerd.mount-manager.v1.bolt", "t");

const needs = whyNot(["root", "overlayfs"]);
let shared: Bench | undefined;
let close = async (): Promise<void> => {};

before(async () => {
  if (needs !== undefined) return;
  const opened = await openRoom();
  ({ close } = opened);
  shared = await bench(opened.room);
});
after(() => close());

let serial = 0;

mountManagerSuite(
  "daemon",
  async () => {
    assert.ok(shared);
    const namespace = `${shared.ctx.namespace}-${serial++}`;
    const dir = join(shared.daemon.root, `test-${serial}`);
    await mkdir(dir);
    const { manager, transport } = shared;
    const ctx = Context.background().withNamespace(namespace);
    return { ctx: await leased(ctx, transport), manager, dir };
  },
  { needs },
);

/** Activations that nothing holds may be collected at any time. */
async function leased(ctx: Context, transport: GrpcTransport): Promise<Context> {
  await createClient(Leases, transport).create(ctx, { id: "held" });
  return Context.background({ namespace: ctx.namespace, lease: "held" });
}

const mounts = [mountOf("tmpfs", "one"), mountOf("format/bind", "{{ mount 0 }}", ["rbind"])];
const spec = {
  typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
  value: Buffer.from("{}"),
};

roomTest("the manager and the handler of EROFS are listed as upstream's", async (room) => {
  const { daemon } = await bench(room);
  const rows = (await daemon.ctrOk(["plugins", "ls"])).split("\n").map((row) => row.split(/\s+/));
  const platform = `linux/${process.arch === "x64" ? "amd64" : "arm64/v8"}`;
  assert.deepEqual(
    rows.filter(([type]) => type?.startsWith("io.containerd.mount-")).map((row) => row.slice(0, 4)),
    [
      ["io.containerd.mount-handler.v1", "erofs", platform, "ok"],
      ["io.containerd.mount-manager.v1", "bolt", "-", "ok"],
    ],
  );
});

roomTest("an activation lives as long as its container", async (room) => {
  const { daemon, ctx, transport, manager } = await bench(room);
  const containers = createClient(Containers, transport);
  const runtime = { name: "io.containerd.runc.v2" };
  await containers.create(ctx, { container: { id: "c", runtime, spec } });
  await manager.activate(ctx, "kept", mounts, {
    labels: { "containerd.io/gc.bref.container": "c" },
  });
  await manager.activate(ctx, "free", mounts);
  await collect(daemon);
  const names = async (): Promise<string[]> => (await manager.list(ctx)).map(({ name }) => name);
  assert.deepEqual(await names(), ["kept"]);
  await containers.delete(ctx, { id: "c" });
  await collect(daemon);
  assert.deepEqual(await names(), []);
  assert.deepEqual(await folders(daemon), []);
});

/** A removal that waits for the collection it asks for. */
async function collect(daemon: Daemon): Promise<void> {
  await daemon.ctrOk(["leases", "create", "--id", "collect"]);
  await daemon.ctrOk(["leases", "rm", "--sync", "collect"]);
}

roomTest("an activation outlives its daemon", async (room) => {
  const { daemon, manager, transport, ...made } = await bench(room);
  const ctx = await leased(made.ctx, transport);
  const { system } = await manager.activate(ctx, "m", mounts);
  await daemon.crash();
  await daemon.start();
  assert.deepEqual((await manager.info(ctx, "m")).system, system);
  await manager.deactivate(ctx, "m");
  assert.deepEqual(await folders(daemon), []);
});

roomTest("what a crash or somebody else left half is undone at the start", async (room) => {
  // Upstream leaves it to whoever finds out.
  if (daemonKind() === "go") return;
  const { daemon, manager, transport, ...made } = await bench(room);
  const ctx = await leased(made.ctx, transport);
  for (const name of ["unmounted", "unrecorded", "broken", "whole"]) {
    await manager.activate(ctx, name, mounts);
  }
  const { active } = await manager.info(ctx, "unmounted");
  await daemon.crash();
  linux.umount2(active[0]?.mountPoint ?? "", 0);
  await rm(join(targetsOf(daemon), "2", "activation.json"));
  await writeFile(join(targetsOf(daemon), "3", "activation.json"), '{"namespace":1}');
  // A crash before anything was mounted.
  await mkdir(join(targetsOf(daemon), "9"));
  await daemon.start();
  assert.deepEqual(
    (await manager.list(ctx)).map(({ name }) => name),
    ["whole"],
  );
  assert.deepEqual(await folders(daemon), ["4"]);
  const again = await manager.activate(ctx, "unmounted", mounts);
  assert.match(again.active[0]?.mountPoint ?? "", /\/t\/10\/1$/);
  for (const name of ["whole", "unmounted"]) await manager.deactivate(ctx, name);
});

async function folders(daemon: Daemon): Promise<string[]> {
  return (await readdir(targetsOf(daemon))).filter((name) => /^\d+$/.test(name));
}

interface TaskBench extends Bench {
  readonly runtime: string;
  readonly tasks: Client<typeof Tasks>;
  /** Of container `c`; the mounts that its shim was left to make. */
  create(rootfs: readonly Mount[]): Promise<readonly Mount[]>;
}

async function taskBench(
  room: Room,
  env: Readonly<Record<string, string>> = {},
): Promise<TaskBench> {
  const runtime = await installSandboxShim(room.dir);
  const made = await bench(room, { SANDBOX_SHIM_DIR: room.dir, ...env });
  const { ctx, daemon, transport } = made;
  const containers = createClient(Containers, transport);
  const tasks = createClient(Tasks, transport);
  await containers.create(ctx, { container: { id: "c", runtime: { name: runtime }, spec } });
  const bundle = join(daemon.state, "io.containerd.runtime.v2.task", room.namespace, "c");
  return {
    ...made,
    runtime,
    tasks,
    create: async (rootfs) => {
      await tasks.create(ctx, { containerId: "c", rootfs: rootfs.map(mountMessage) });
      // -- written by the tests' own shim
      return JSON.parse(await readFile(join(bundle, "rootfs.json"), "utf8")) as readonly Mount[];
    },
  };
}

async function endTask({ ctx, tasks }: TaskBench): Promise<void> {
  await tasks.kill(ctx, { containerId: "c", signal: 9 });
  await tasks.delete(ctx, { containerId: "c" });
}

roomTest("a task's mounts are activated under its id, and go with it", async (room) => {
  const b = await taskBench(room);
  const { ctx, manager } = b;
  const left = await b.create(mounts);
  const { active, system, labels } = await manager.info(ctx, "c");
  assert.deepEqual(left, [mountOf("bind", active[0]?.mountPoint ?? "", ["rbind"])]);
  assert.deepEqual([system, labels], [left, { "containerd.io/gc.bref.container": "c" }]);
  await endTask(b);
  await rejectsAs(manager.info(ctx, "c"), "not-found");
  // What the kernel mounts is left alone.
  const plain = [mountOf("bind", "/nowhere", ["ro"])];
  assert.deepEqual(await b.create(plain), plain);
  await endTask(b);
});

roomTest("a task that fails takes its own mounts with it, and nobody else's", async (room) => {
  const b = await taskBench(room);
  const { ctx, manager } = b;
  const refused = [...mounts, mountOf("refused", "")];
  await assert.rejects(b.create(refused), /refused to create/);
  await rejectsAs(manager.info(ctx, "c"), "not-found");
  const { system } = await manager.activate(ctx, "c", mounts, {
    labels: { "containerd.io/gc.bref.container": "c" },
  });
  // Those of before are used again, whatever the request says.
  assert.deepEqual(await b.create([mountOf("format/bind", "other")]), system);
  await endTask(b);
});

roomTest("a shim claims mounts with its start", async (room) => {
  const b = await taskBench(room, { SANDBOX_SHIM_CLAIMS: "types=;transforms=mkdir,format" });
  const claimed = [mountOf("format/mkdir/overlay", "overlay")];
  assert.deepEqual(await b.create(claimed), claimed);
  await endTask(b);
});

roomTest("a runtime's annotation claims mounts where its shim does not", async (room) => {
  const b = await taskBench(room, { SANDBOX_SHIM_ALLOW_MOUNTS: "mkdir/*,other" });
  const [left] = await b.create([mountOf("format/mkdir/overlay", "overlay")]);
  assert.equal(left?.type, "mkdir/overlay");
  await endTask(b);
});

roomTest("a container inherits what the shim of its sandbox claims", async (room) => {
  const b = await taskBench(room, { SANDBOX_SHIM_CLAIMS: "types=;transforms=format" });
  const { ctx, transport, runtime, tasks } = b;
  const store = new GrpcSandboxStore(transport);
  const controller = new GrpcSandboxController(transport, "shim");
  const pod = sandboxOf("pod", { runtime: { name: runtime, options: undefined } });
  await store.create(ctx, pod);
  await controller.create(ctx, pod);
  const containers = createClient(Containers, transport);
  await containers.delete(ctx, { id: "c" });
  const container = { id: "c", runtime: { name: runtime }, spec, sandbox: "pod" };
  await containers.create(ctx, { container });
  const claimed = [mountOf("format/bind", "{{ mount 0 }}")];
  assert.deepEqual(await b.create(claimed), claimed);
  await endTask(b);
  // By the address that a sandboxer gives, as CRI does.
  const socket = (await readdir(room.dir)).find((name) => /^pod-\d+\.sock$/.test(name)) ?? "";
  const taskApiAddress = `ttrpc+unix://${join(room.dir, socket)}`;
  const rootfs = claimed.map(mountMessage);
  await tasks.create(ctx, { containerId: "c", rootfs, taskApiAddress, taskApiVersion: 3 });
  await rejectsAs(b.manager.info(ctx, "c"), "not-found");
  await endTask(b);
  const { info } = await controller.status(ctx, "pod");
  assert.equal(info["shutdowns"], "c,c");
  await controller.shutdown(ctx, "pod");
  await store.delete(ctx, "pod");
});

roomTest("a runtime says of itself what it is", async (room) => {
  const { ctx, transport, runtime } = await taskBench(room, {
    SANDBOX_SHIM_ALLOW_MOUNTS: "erofs",
  });
  const introspection = createClient(Introspection, transport);
  const ask = async (runtimePath: string, typeName: string = RuntimeRequestSchema.typeName) => {
    const request = create(RuntimeRequestSchema, { runtimePath });
    const value = toBinary(RuntimeRequestSchema, request);
    const { extra } = await introspection.pluginInfo(ctx, {
      type: "io.containerd.runtime.v2",
      id: "task",
      options: { typeUrl: typeName, value },
    });
    return fromBinary(RuntimeInfoSchema, extra?.value ?? new Uint8Array());
  };
  const { name, version, annotations } = await ask(runtime);
  assert.deepEqual(
    [name, version?.version, version?.revision],
    ["sandbox test shim", "1.2.3", "abc"],
  );
  assert.deepEqual(annotations, { "containerd.io/runtime-allow-mounts": "erofs" });
  const runc = await ask("io.containerd.runc.v2");
  assert.equal(runc.name, "io.containerd.runc.v2");
  assert.notEqual(runc.version?.version, "");
  assert.match(Buffer.from(runc.features?.value ?? []).toString("utf8"), /"ociVersionMax":\s*"1\./);
  await assert.rejects(ask("io.containerd.nowhere.v1"), /binary not installed/);
  await assert.rejects(ask(""), /no runtime name/);
  const asked = { type: "io.containerd.content.v1", id: "content" };
  const options = { typeUrl: RuntimeRequestSchema.typeName, value: new Uint8Array() };
  await rejectsAs(introspection.pluginInfo(ctx, { ...asked, options }), "not-implemented");
  await rejectsAs(introspection.pluginInfo(ctx, { ...asked, id: "none" }), "not-found");
  const { deprecations } = await introspection.server(ctx, {});
  const isUnified = linux.statfs("/sys/fs/cgroup").type === FS_MAGIC.CGROUP2;
  assert.deepEqual(
    deprecations.map(({ id }) => id),
    isUnified ? [] : ["io.containerd.deprecation/cgroup-v1"],
  );
  const { plugin } = await introspection.pluginInfo(ctx, asked);
  assert.equal(plugin?.id, "content");
});

async function rejectsAs(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (error: Error) => {
    assert.equal(codeOf(error), code, error.message);
    return true;
  });
}
