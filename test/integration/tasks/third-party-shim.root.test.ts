import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { messageOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { debianProgram, newerProgram } from "#test/support/debian.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  bundleNames,
  outputFifo,
  processSpec,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
  untilText,
} from "./harness.ts";

const SIGKILL = 9;
const SIGSTOP = 19;
/** Of Go containerd 1.6: task service 2, a plain address, options on standard input, no `-info`. */
const goShim = (): string => join(dirname(debianProgram("containerd")), "containerd-shim-runc-v2");

/** The real shim behind `proxy-shim.ts`, as a daemon finds shims. */
async function installProxy(room: Room, real: string): Promise<string> {
  const path = join(room.dir, "containerd-shim-proxy-v1");
  const program = join(import.meta.dirname, "proxy-shim.ts");
  const script = [
    "#!/bin/sh",
    'for last; do :; done; case "$last" in',
    `start) REAL_SHIM=${real} exec ${process.execPath} ${program} "$@";;`,
    `*) exec ${real} "$@";;`,
    "esac",
  ];
  await writeFile(path, script.join("\n"), { mode: 0o755 });
  return path;
}

async function startSleeper(
  daemon: TaskDaemon,
  room: Room,
  id = "c1",
  runtime = goShim(),
): Promise<{ pid: number; shim: number }> {
  const { ctx, tasks } = daemon;
  await recordContainer(daemon, room, id, { args: shell("sleep 1000"), runtime });
  const { pid } = await tasks.create(ctx, { containerId: id, rootfs: rootfsMounts(room) });
  await tasks.start(ctx, { containerId: id });
  const record = daemon.manager.records.get(room.namespace, id);
  assert.ok(record);
  const { shimPid } = await record.link.ask(ctx, (shim) => shim.connect(ctx, id));
  // Go's shim 1.6 leaves its socket when it is killed, and neither daemon takes it away.
  const address = join(room.dir, "state", room.namespace, id, "address");
  if (existsSync(address)) {
    const socket = (await readFile(address, "utf8")).replace("unix://", "");
    room.resources.defer(() => rm(socket, { force: true }));
  }
  return { pid, shim: shimPid };
}

function seen(daemon: TaskDaemon): string[] {
  return daemon.events.map((e) => [e.topic, e.subject, e.exitStatus].join(" ").trim());
}

roomTest(
  "a shim of Go containerd 1.6 runs a task by its binary",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    await recordContainer(daemon, room, "c1", {
      args: shell("echo hello; sleep 1000"),
      runtime: goShim(),
    });
    const stdout = outputFifo(room, "out");
    await tasks.create(ctx, {
      containerId: "c1",
      rootfs: rootfsMounts(room),
      stdout: stdout.path,
      stderr: stdout.path,
    });
    const bundle = join(room.dir, "state", room.namespace, "c1");
    const bootstrap: unknown = JSON.parse(await readFile(join(bundle, "bootstrap.json"), "utf8"));
    assert.ok(typeof bootstrap === "object" && bootstrap !== null && "version" in bootstrap);
    assert.equal(bootstrap.version, 2);
    assert.equal(await readFile(join(bundle, "shim-binary-path"), "utf8"), goShim());
    await tasks.start(ctx, { containerId: "c1" });
    await untilText(stdout, /hello/);
    await tasks.exec(ctx, {
      containerId: "c1",
      execId: "e1",
      spec: {
        typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
        value: Buffer.from(JSON.stringify(processSpec(shell("exit 3")))),
      },
    });
    const execExit = tasks.wait(ctx, { containerId: "c1", execId: "e1" });
    await tasks.start(ctx, { containerId: "c1", execId: "e1" });
    assert.equal((await execExit).exitStatus, 3);
    await tasks.deleteProcess(ctx, { containerId: "c1", execId: "e1" });
    const exit = tasks.wait(ctx, { containerId: "c1" });
    await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
    assert.equal((await exit).exitStatus, 137);
    assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 137);
    await until("the delete event", () => seen(daemon).includes("/tasks/delete c1"));
    assert.deepEqual(seen(daemon), [
      "/tasks/create c1",
      "/tasks/start c1",
      "/tasks/exec-added c1",
      "/tasks/exec-started c1",
      "/tasks/exit c1/e1 3",
      "/tasks/exit c1 137",
      "/tasks/delete c1",
    ]);
    assert.deepEqual(await bundleNames(room), []);
  },
  { needs: ["runc"] },
);

roomTest(
  "a create that a third-party shim fails in the middle leaves no process of its runtime",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    await recordContainer(daemon, room, "c1", { args: shell("true"), runtime: goShim() });
    const stdout = outputFifo(room, "out");
    // This shim fails on a process with one output and not the other, when runc has made the
    // container already.
    await assert.rejects(
      tasks.create(ctx, {
        containerId: "c1",
        rootfs: rootfsMounts(room),
        stdout: stdout.path,
      }),
      /failed to create shim task: failed to start io pipe copy/,
    );
    assert.deepEqual(await bundleNames(room), []);
    assert.deepEqual(daemon.manager.records.list(), []);
  },
  { needs: ["runc"] },
);

roomTest(
  "a killed third-party shim is cleaned up after, with the events it owes",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    const { pid, shim } = await startSleeper(daemon, room);
    const exit = tasks.wait(ctx, { containerId: "c1" });
    linux.kill(shim, SIGKILL);
    assert.equal((await exit).exitStatus, 137);
    await until("the delete event", () => seen(daemon).includes("/tasks/delete c1"));
    assert.deepEqual(seen(daemon).slice(-2), ["/tasks/exit c1 137", "/tasks/delete c1"]);
    await until("the container is gone", async () => (await processInfo(pid)) === undefined);
    assert.deepEqual((await tasks.list(ctx, {})).tasks, []);
    await assert.rejects(tasks.get(ctx, { containerId: "c1" }), /task c1 not found/);
    await until("the bundle is gone", async () => {
      return (await bundleNames(room)).length === 0;
    });
  },
  { needs: ["runc"] },
);

roomTest(
  "a restarted daemon finds a third-party shim again",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { pid } = await startSleeper(daemon, room);
    await daemon.restart();
    const { ctx, tasks } = daemon;
    const { process } = await tasks.get(ctx, { containerId: "c1" });
    assert.deepEqual([process?.pid, process?.status], [pid, 2]);
    const exit = tasks.wait(ctx, { containerId: "c1" });
    await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
    assert.equal((await exit).exitStatus, 137);
    await tasks.delete(ctx, { containerId: "c1" });
  },
  { needs: ["runc"] },
);

roomTest(
  "a third-party shim that does not answer holds up neither the start nor another's task",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const mute = await startSleeper(daemon, room, "c1");
    const other = await startSleeper(daemon, room, "c2");
    await daemon.drop();
    linux.kill(mute.shim, SIGSTOP);
    room.resources.defer(() => linux.kill(mute.shim, SIGKILL));
    const began = performance.now();
    await daemon.start();
    const tookMs = performance.now() - began;
    // One budget of 5 s for all that is asked of it, and then its `delete` command.
    assert.ok(tookMs > 4_900 && tookMs < 20_000, `${tookMs} ms`);
    assert.deepEqual(seen(daemon).slice(-2), ["/tasks/exit c1 137", "/tasks/delete c1"]);
    // Its parent, the shim, takes no notice of its end.
    await until("its container has ended", async () => {
      return ((await processInfo(mute.pid))?.state ?? "Z") === "Z";
    });
    assert.deepEqual(await bundleNames(room), ["c2"]);
    const { ctx, tasks } = daemon;
    assert.equal((await tasks.get(ctx, { containerId: "c2" })).process?.pid, other.pid);
    const exit = tasks.wait(ctx, { containerId: "c2" });
    await tasks.kill(ctx, { containerId: "c2", signal: SIGKILL });
    assert.equal((await exit).exitStatus, 137);
    await tasks.delete(ctx, { containerId: "c2" });
  },
  { needs: ["runc"] },
);

roomTest(
  "what a third-party shim logs comes out at the daemon",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    await startSleeper(daemon, room, "c1");
    const line = /^shim: .*level=info msg="loading plugin /m;
    await until("it has logged", () => daemon.log.some((chunk) => line.test(chunk)));
    const exit = tasks.wait(ctx, { containerId: "c1" });
    await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
    await exit;
    await tasks.delete(ctx, { containerId: "c1" });
  },
  { needs: ["runc"] },
);

const releases = {
  "Go's 1.6": { path: goShim, needs: ["runc"] },
  "Go's 2": { path: () => newerProgram("sid", "containerd-shim-runc-v2"), needs: ["runc", "sid"] },
} as const;

for (const [name, { path, needs }] of Object.entries(releases)) {
  roomTest(
    `a shim whose first Shutdown fails is told again by the retry: ${name}`,
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const { pid, shim } = await startSleeper(
        daemon,
        room,
        "c1",
        await installProxy(room, path()),
      );
      const exit = tasks.wait(ctx, { containerId: "c1" });
      await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
      assert.equal((await exit).exitStatus, 137);
      await assert.rejects(tasks.delete(ctx, { containerId: "c1" }), (error) => {
        const words = /^failed to delete task: failed to invoke shutdown: .*please retry/;
        assert.match(messageOf(error), words);
        return true;
      });
      assert.ok(await processInfo(shim), "it has not ended");
      assert.deepEqual(await bundleNames(room), ["c1"]);
      const deleted = await tasks.delete(ctx, { containerId: "c1" });
      assert.deepEqual([deleted.pid, deleted.exitStatus], [pid, 137]);
      await until("the shim is gone", async () => (await processInfo(shim)) === undefined);
      assert.deepEqual(await bundleNames(room), []);
      await until("the delete event", () => seen(daemon).includes("/tasks/delete c1"));
      const ends = seen(daemon).filter((line) => /exit|delete/.test(line));
      assert.deepEqual(ends, ["/tasks/exit c1 137", "/tasks/delete c1"]);
    },
    { needs },
  );
}

roomTest(
  "a third-party shim that died without a daemon is cleaned up at the next start",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { pid, shim } = await startSleeper(daemon, room);
    await daemon.drop();
    linux.kill(shim, SIGKILL);
    await until("the shim is gone", async () => (await processInfo(shim)) === undefined);
    await daemon.start();
    assert.deepEqual(seen(daemon).slice(-2), ["/tasks/exit c1 137", "/tasks/delete c1"]);
    await until("the container is gone", async () => (await processInfo(pid)) === undefined);
    assert.deepEqual(daemon.manager.records.list(), []);
    assert.deepEqual(await bundleNames(room), []);
  },
  { needs: ["runc"] },
);
