import assert from "node:assert/strict";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { codeOf } from "#pkg/errors.ts";
import { linux } from "#pkg/sys/linux.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  bundleNames,
  inputFifo,
  type OutputFifo,
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

/** A container that echoes its input line by line and ends with the number on a line `exit N`. */
const echo = shell(
  'while read -r word rest; do [ "$word" = exit ] && exit "$rest"; echo "got $word"; done',
);

interface EchoTask {
  readonly pid: number;
  readonly stdout: OutputFifo;
  readonly say: (text: string) => void;
}

async function startEcho(daemon: TaskDaemon, room: Room, id: string): Promise<EchoTask> {
  const { ctx, tasks } = daemon;
  await recordContainer(daemon, room, id, { args: echo });
  const stdout = outputFifo(room, `${id}-out`);
  const stdin = inputFifo(room, `${id}-in`);
  const { pid } = await tasks.create(ctx, {
    containerId: id,
    rootfs: rootfsMounts(room),
    stdin: stdin.path,
    stdout: stdout.path,
  });
  const { say } = stdin.open();
  await tasks.start(ctx, { containerId: id });
  return { pid, stdout, say };
}

/** Without stdin: a pipe of the supervisor's would end with it. */
async function startSleeper(daemon: TaskDaemon, room: Room, id: string): Promise<number> {
  const { ctx, tasks } = daemon;
  await recordContainer(daemon, room, id, { args: shell("sleep 1000") });
  const { pid } = await tasks.create(ctx, { containerId: id, rootfs: rootfsMounts(room) });
  await tasks.start(ctx, { containerId: id });
  return pid;
}

async function killAndDelete(daemon: TaskDaemon, id: string): Promise<number> {
  const { ctx, tasks } = daemon;
  const exit = tasks.wait(ctx, { containerId: id });
  await tasks.kill(ctx, { containerId: id, signal: SIGKILL });
  await exit;
  return (await tasks.delete(ctx, { containerId: id })).exitStatus;
}

async function supervisorPid(daemon: TaskDaemon, id: string): Promise<number> {
  const [record] = daemon.manager.records.list().filter((r) => r.id === id);
  assert.ok(record);
  const { shimPid } = await record.link.ask(daemon.ctx, (tasks) => tasks.connect(daemon.ctx, id));
  return shimPid;
}

function topicsOf(daemon: TaskDaemon, id: string): string[] {
  return daemon.events.filter((e) => e.subject === id).map((e) => e.topic);
}

roomTest(
  "a restarted daemon goes on with the tasks that run",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const task = await startEcho(daemon, room, "c1");
    task.say("one\n");
    await untilText(task.stdout, /got one/);
    await daemon.restart();
    const { ctx, tasks } = daemon;
    const listed = await tasks.list(ctx, {});
    assert.deepEqual(
      listed.tasks.map((t) => [t.id, t.pid, t.status]),
      [["c1", task.pid, 2]],
    );
    task.say("two\n");
    await untilText(task.stdout, /got two/);
    const stdout = outputFifo(room, "exec-out");
    await tasks.exec(ctx, {
      containerId: "c1",
      execId: "e1",
      stdout: stdout.path,
      spec: {
        typeUrl: "",
        value: Buffer.from(JSON.stringify(processSpec(shell("echo x; exit 4")))),
      },
    });
    const execExit = tasks.wait(ctx, { containerId: "c1", execId: "e1" });
    await tasks.start(ctx, { containerId: "c1", execId: "e1" });
    assert.equal((await execExit).exitStatus, 4);
    await tasks.deleteProcess(ctx, { containerId: "c1", execId: "e1" });
    const exit = tasks.wait(ctx, { containerId: "c1" });
    task.say("exit 5\n");
    assert.equal((await exit).exitStatus, 5);
    assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 5);
    await until("the delete event", () => topicsOf(daemon, "c1").includes("/tasks/delete"));
    assert.deepEqual(topicsOf(daemon, "c1").slice(-2), ["/tasks/exit", "/tasks/delete"]);
  },
  { needs: ["runc"] },
);

roomTest(
  "a task that ended while no daemon ran keeps its status for the next one",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const task = await startEcho(daemon, room, "c1");
    await daemon.drop();
    task.say("exit 6\n");
    await until("the container is gone", async () => (await processInfo(task.pid)) === undefined);
    await daemon.start();
    const { ctx, tasks } = daemon;
    assert.equal((await tasks.wait(ctx, { containerId: "c1" })).exitStatus, 6);
    assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 6);
    await until("the delete event", () => topicsOf(daemon, "c1").includes("/tasks/delete"));
    // What the supervisor could not deliver meanwhile comes late, and once.
    assert.deepEqual(topicsOf(daemon, "c1").slice(-2), ["/tasks/exit", "/tasks/delete"]);
  },
  { needs: ["runc"] },
);

roomTest(
  "a killed supervisor is replaced while its containers run and are waited for",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    const pid = await startSleeper(daemon, room, "c1");
    await startSleeper(daemon, room, "c2");
    const first = await supervisorPid(daemon, "c1");
    assert.equal(await supervisorPid(daemon, "c2"), first);
    const exit = tasks.wait(ctx, { containerId: "c1" });
    linux.kill(first, SIGKILL);
    await until(
      "another supervisor serves",
      async () => (await supervisorPid(daemon, "c1")) !== first,
    );
    const state = await tasks.get(ctx, { containerId: "c1" });
    assert.deepEqual([state.process?.pid, state.process?.status], [pid, 2]);
    assert.equal((await tasks.list(ctx, {})).tasks.length, 2);
    await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
    assert.equal((await exit).exitStatus, 137);
    assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 137);
    assert.equal(await killAndDelete(daemon, "c2"), 137);
    await until("the delete events", () => topicsOf(daemon, "c2").includes("/tasks/delete"));
    assert.deepEqual(
      topicsOf(daemon, "c1"),
      ["create", "start", "exit", "delete"].map((t) => `/tasks/${t}`),
    );
  },
  { needs: ["runc"] },
);

roomTest(
  "daemon and supervisor die together and the containers live on",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const pid = await startSleeper(daemon, room, "c1");
    const first = await supervisorPid(daemon, "c1");
    await daemon.drop();
    linux.kill(first, SIGKILL);
    await until("the supervisor is gone", async () => (await processInfo(first)) === undefined);
    await daemon.start();
    const { ctx, tasks } = daemon;
    const state = await tasks.get(ctx, { containerId: "c1" });
    assert.deepEqual([state.process?.pid, state.process?.status], [pid, 2]);
    assert.equal(await killAndDelete(daemon, "c1"), 137);
    await until("the delete event", () => topicsOf(daemon, "c1").includes("/tasks/delete"));
  },
  { needs: ["runc"] },
);

roomTest(
  "loading ends a task whose container is not on record, and frees its name",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const pid = await startSleeper(daemon, room, "c1");
    await daemon.drop();
    daemon.containers.clear();
    await daemon.start();
    await until("the container is gone", async () => (await processInfo(pid)) === undefined);
    assert.deepEqual(await bundleNames(room), []);
    assert.deepEqual(daemon.manager.records.list(), []);
    await startSleeper(daemon, room, "c1");
    assert.equal(await killAndDelete(daemon, "c1"), 137);
  },
  { needs: ["runc"] },
);

roomTest("loading removes what a crash has left of bundles and work directories", async (room) => {
  const daemon = await startTaskDaemon(room);
  await daemon.drop();
  const state = join(room.dir, "state", room.namespace);
  await mkdir(join(state, "empty"), { recursive: true });
  await mkdir(join(state, ".removed", "rootfs"), { recursive: true });
  await mkdir(join(room.dir, "root", room.namespace, "orphan", "x"), { recursive: true });
  await daemon.start();
  assert.deepEqual(await readdir(state), []);
  assert.deepEqual(await readdir(join(room.dir, "root", room.namespace)), []);
});

roomTest(
  "racing first creates of a namespace share one supervisor",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const ids = ["c1", "c2", "c3", "c4"];
    await Promise.all(ids.map((id) => startSleeper(daemon, room, id)));
    const pids = await Promise.all(ids.map((id) => supervisorPid(daemon, id)));
    assert.equal(new Set(pids).size, 1);
    await Promise.all(ids.map((id) => killAndDelete(daemon, id)));
    // It stays a little for the next task.
    await startSleeper(daemon, room, "c5");
    assert.equal(await supervisorPid(daemon, "c5"), pids[0]);
    await killAndDelete(daemon, "c5");
    const { ctx, tasks } = daemon;
    await assert.rejects(tasks.delete(ctx, { containerId: "c5" }), (error: Error) => {
      assert.equal(codeOf(error), "not-found");
      return true;
    });
  },
  { needs: ["runc"] },
);

roomTest(
  "a supervisor without tasks ends, and a create that meets its end gets another",
  async (room) => {
    const daemon = await startTaskDaemon(room, { supervisorLingerMs: 0 });
    await startSleeper(daemon, room, "c1");
    const first = await supervisorPid(daemon, "c1");
    await killAndDelete(daemon, "c1");
    await startSleeper(daemon, room, "c2");
    assert.notEqual(await supervisorPid(daemon, "c2"), first);
    await killAndDelete(daemon, "c2");
  },
  { needs: ["runc"] },
);
