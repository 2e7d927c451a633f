import assert from "node:assert/strict";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ShimTaskRuntime } from "#core/runtime/task-runtime.ts";
import { codeOf, type ErrorCode, messageOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import type { ForeignMode } from "./foreign-shim.ts";
import {
  bundleNames,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
} from "./harness.ts";

const SIGKILL = 9;

/** The program as a daemon finds shims: by a path, with nothing in the environment for it. */
async function installShim(room: Room, mode: ForeignMode): Promise<string> {
  const path = join(room.dir, "containerd-shim-foreign-v1");
  const program = join(import.meta.dirname, "foreign-shim.ts");
  const script = [
    "#!/bin/sh",
    '[ "$*" = -info ] && exit 0',
    `FOREIGN_SHIM=${mode} exec ${process.execPath} ${program} "$@"`,
  ];
  await writeFile(path, script.join("\n"));
  await chmod(path, 0o755);
  return path;
}

async function startWith(room: Room, mode: ForeignMode): Promise<TaskDaemon> {
  const daemon = await startTaskDaemon(room);
  const runtime = await installShim(room, mode);
  await recordContainer(daemon, room, "c1", { args: shell("sleep 1000"), runtime });
  return daemon;
}

function createTask(daemon: TaskDaemon, room: Room, ctx = daemon.ctx): Promise<{ pid: number }> {
  return daemon.tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
}

async function isGone(pid: number): Promise<boolean> {
  return (await processInfo(pid)) === undefined;
}

function told(daemon: TaskDaemon): string[] {
  return daemon.events.map((e) => [e.topic, e.subject, e.exitStatus].join(" ").trim());
}

for (const mode of ["ttrpc", "grpc"] as const) {
  roomTest(`a foreign shim that speaks ${mode} runs a task, over a restart too`, async (room) => {
    const daemon = await startWith(room, mode);
    const { ctx } = daemon;
    const { pid } = await createTask(daemon, room);
    assert.equal((await daemon.tasks.start(ctx, { containerId: "c1" })).pid, pid);
    await daemon.restart();
    const { process } = await daemon.tasks.get(ctx, { containerId: "c1" });
    assert.deepEqual([process?.id, process?.pid, process?.status], ["c1", pid, 2]);
    await assert.rejects(daemon.tasks.pause(ctx, { containerId: "c1" }), (error) => {
      assert.equal(codeOf(error), "not-implemented");
      return true;
    });
    const exit = daemon.tasks.wait(ctx, { containerId: "c1" });
    await daemon.tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
    assert.equal((await exit).exitStatus, 137);
    const deleted = await daemon.tasks.delete(ctx, { containerId: "c1" });
    assert.deepEqual([deleted.pid, deleted.exitStatus], [pid, 137]);
    assert.deepEqual(await bundleNames(room), []);
  });

  roomTest(`a foreign shim that speaks ${mode} and is killed is cleaned up after`, async (room) => {
    const daemon = await startWith(room, mode);
    const { ctx, tasks } = daemon;
    const { pid } = await createTask(daemon, room);
    const [record] = daemon.manager.records.list();
    const shim = await record?.link.ask(ctx, (proxy) => proxy.connect(ctx, "c1"));
    const exit = tasks.wait(ctx, { containerId: "c1" });
    linux.kill(shim?.shimPid ?? 0, SIGKILL);
    assert.equal((await exit).exitStatus, 137);
    await until("its end is told", () => told(daemon).includes("/tasks/delete c1"));
    assert.deepEqual(told(daemon), ["/tasks/exit c1 137", "/tasks/delete c1"]);
    await until("its process is gone", () => isGone(pid));
    await until("its bundle is gone", async () => (await bundleNames(room)).length === 0);
  });
}

roomTest(
  "a shim is told by flags, environment and standard input whose it is and where the daemon is",
  async (room) => {
    const daemon = await startWith(room, "ttrpc");
    const { ctx, tasks } = daemon;
    await createTask(daemon, room);
    const bundle = join(room.dir, "state", room.namespace, "c1");
    const { grpcAddress, ttrpcAddress, containerdBinary, version } = daemon.manager.options.host;
    assert.deepEqual(JSON.parse(await readFile(join(bundle, "params.json"), "utf8")), {
      instanceId: "c1",
      namespace: room.namespace,
      containerdVersion: version,
      containerdGrpcAddress: grpcAddress,
      containerdTtrpcAddress: ttrpcAddress,
      containerdBinary,
      socketDir: join(room.dir, "s"),
    });
    // -- as the shim writes it
    const command = JSON.parse(await readFile(join(bundle, "command.json"), "utf8")) as {
      args: string[];
      env: Record<string, string>;
    };
    const flags = ["-namespace", room.namespace, "-address", grpcAddress];
    const more = ["-publish-binary", containerdBinary, "-id", "c1", "start"];
    assert.deepEqual(command.args, [...flags, ...more]);
    const told = ["TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE", "MAX_SHIM_VERSION", "GOMAXPROCS"];
    assert.deepEqual(
      told.map((name) => command.env[name]),
      [ttrpcAddress, grpcAddress, room.namespace, "2", "2"],
    );
    await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
    await tasks.wait(ctx, { containerId: "c1" });
    await tasks.delete(ctx, { containerId: "c1" });
  },
);

roomTest("what a shim logs comes out at the daemon, after its restart too", async (room) => {
  const daemon = await startWith(room, "ttrpc");
  const { ctx } = daemon;
  const { pid } = await createTask(daemon, room);
  await until("it is logged", () => daemon.log.includes("shim: serves c1\n"));
  await daemon.restart();
  const exit = daemon.tasks.wait(ctx, { containerId: "c1" });
  await daemon.tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
  await exit;
  await until("it is logged", () => daemon.log.includes(`shim: kills ${pid}\n`));
  await daemon.tasks.delete(ctx, { containerId: "c1" });
});

const failingStarts: readonly (readonly [ForeignMode, ErrorCode, RegExp])[] = [
  ["fails-at-start", "unknown", /start failed: no machine to boot: exit status 3$/],
  ["prints-garbage", "unavailable", /^failed to start shim: start failed: /],
  ["serves-nowhere", "unavailable", /^failed to start shim: start failed: .*TTRPC connection/],
  ["speaks-version-9", "not-implemented", /^failed to start shim: start failed: .*version/],
  ["answers-garbage", "unavailable", /^failed to create shim task: /],
];

for (const [mode, code, words] of failingStarts) {
  roomTest(`a shim that ${mode.replaceAll("-", " ")} fails the create alone`, async (room) => {
    const daemon = await startWith(room, mode);
    await assert.rejects(createTask(daemon, room), (error) => {
      assert.match(messageOf(error), words);
      assert.equal(codeOf(error), code, messageOf(error));
      return true;
    });
    assert.deepEqual(await bundleNames(room), []);
    assert.deepEqual(daemon.manager.records.list(), []);
    assert.deepEqual(told(daemon), []);
  });
}

roomTest("a shim whose start never ends is killed when time is up, and quoted", async (room) => {
  const daemon = await startWith(room, "hangs-at-start");
  const { runtime, spec } = daemon.containers.get("c1") ?? assert.fail();
  // Not by RPC: a client whose time is up hears no more of the daemon's words.
  const created = new ShimTaskRuntime(daemon.manager).create(daemon.ctx.withTimeout(8_000), "c1", {
    spec,
    rootfs: rootfsMounts(room).map((mount) => ({ ...mount, target: "" })),
    io: { stdin: "", stdout: "", stderr: "", terminal: false },
    runtime: runtime.name,
    runtimeOptions: undefined,
    taskOptions: undefined,
    sandbox: undefined,
  });
  await assert.rejects(created, (error) => {
    const words = "shim killed after context deadline exceeded: signal: killed";
    const said = `failed to start shim: start failed: the machine boots: ${words}`;
    assert.equal(messageOf(error), said);
    assert.equal(codeOf(error), "deadline-exceeded");
    return true;
  });
  assert.deepEqual(daemon.manager.records.list(), []);
  assert.deepEqual(await bundleNames(room), []);
});

roomTest("a shim that never creates holds its caller for as long as that waits", async (room) => {
  const daemon = await startWith(room, "never-creates");
  // Long enough for its process to have started on a busy machine.
  await assert.rejects(createTask(daemon, room, daemon.ctx.withTimeout(8_000)), (error) => {
    assert.equal(codeOf(error), "deadline-exceeded", messageOf(error));
    return true;
  });
  await until("nothing is left", () => daemon.manager.records.list().length === 0);
  assert.deepEqual(await bundleNames(room), []);
});

roomTest("a shim that never shuts down fails the delete and keeps the task", async (room) => {
  const daemon = await startWith(room, "never-shuts-down");
  const { ctx, tasks } = daemon;
  const { pid } = await createTask(daemon, room);
  await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
  await tasks.wait(ctx, { containerId: "c1" });
  await assert.rejects(tasks.delete(ctx, { containerId: "c1" }), (error) => {
    assert.match(messageOf(error), /^failed to delete task: failed to invoke shutdown: /);
    return true;
  });
  assert.deepEqual(await bundleNames(room), ["c1"]);
  const [record] = daemon.manager.records.list();
  const shim = await record?.link.ask(ctx, (proxy) => proxy.connect(ctx, "c1"));
  linux.kill(shim?.shimPid ?? 0, SIGKILL);
  await until("its bundle is gone", async () => (await bundleNames(room)).length === 0);
  await until("its process is gone", () => isGone(pid));
  // The task was deleted, and said so to its client: a shim that dies then owes nothing.
  assert.deepEqual(told(daemon), []);
});

roomTest("a shim whose delete command never ends is given up after its time", async (room) => {
  const daemon = await startWith(room, "never-deletes");
  const { ctx, tasks } = daemon;
  const { pid } = await createTask(daemon, room);
  const [record] = daemon.manager.records.list();
  const shim = await record?.link.ask(ctx, (proxy) => proxy.connect(ctx, "c1"));
  linux.kill(shim?.shimPid ?? 0, SIGKILL);
  await until("its end is told", () => told(daemon).includes("/tasks/delete c1"));
  assert.deepEqual(told(daemon), ["/tasks/exit c1 255", "/tasks/delete c1"]);
  const why = "the machine halts: shim killed after context deadline exceeded: signal: killed";
  const words = "failed to clean up after shim disconnected";
  assert.ok(daemon.log.some((line) => line.includes(words) && line.includes(why)));
  await assert.rejects(tasks.get(ctx, { containerId: "c1" }), /task c1 not found/);
  linux.kill(pid, SIGKILL);
});
