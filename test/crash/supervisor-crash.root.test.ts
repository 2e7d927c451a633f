import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { codeOf } from "#pkg/errors.ts";
import { descendantsOf, openFilesOf, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  bundleNames,
  processSpec,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
} from "#test/integration/tasks/harness.ts";

const SIGKILL = 9;
const [created, running, stopped, paused] = [1, 2, 3, 4];

/** A daemon whose next supervisor ends itself at the failpoint, once. */
async function daemonWith(room: Room, failpoint: string): Promise<TaskDaemon> {
  writeFileSync(join(room.dir, "failpoints"), `${failpoint}=kill`);
  return await startTaskDaemon(room, { supervisorLingerMs: 0 });
}

async function create(daemon: TaskDaemon, room: Room): Promise<void> {
  await recordContainer(daemon, room, "c1", { args: shell("sleep 1000") });
  await daemon.tasks.create(daemon.ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
}

async function run(daemon: TaskDaemon, room: Room): Promise<void> {
  await create(daemon, room);
  await daemon.tasks.start(daemon.ctx, { containerId: "c1" });
}

async function remove(daemon: TaskDaemon): Promise<void> {
  const { ctx, tasks } = daemon;
  const exit = tasks.wait(ctx, { containerId: "c1" });
  await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
  assert.equal((await exit).exitStatus, 137);
  assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 137);
}

async function exec(daemon: TaskDaemon, execId = "e1"): Promise<void> {
  const value = Buffer.from(JSON.stringify(processSpec(shell("exec sleep 7777"))));
  const spec = { typeUrl: "", value };
  await daemon.tasks.exec(daemon.ctx, { containerId: "c1", execId, spec });
}

/** Nothing is left, and the id is free. */
async function assertGone(daemon: TaskDaemon, room: Room): Promise<void> {
  await until("the bundle is gone", async () => (await bundleNames(room)).length === 0);
  assert.deepEqual((await daemon.tasks.list(daemon.ctx, {})).tasks, []);
  await run(daemon, room);
  await remove(daemon);
  assert.equal(existsSync(join(room.dir, "failpoints")), false);
}

async function statusOf(daemon: TaskDaemon, execId = ""): Promise<number | undefined> {
  const { process } = await daemon.tasks.get(daemon.ctx, { containerId: "c1", execId });
  return process?.status;
}

function topics(daemon: TaskDaemon, subject = "c1"): string[] {
  return daemon.events.filter((event) => event.subject === subject).map(({ topic }) => topic);
}

const lifeOfTask = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
const lifeOfExec = ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"];

/** Of `e1`, each as often as it was told, in the order of all that was told of the container. */
function toldOfExec({ events }: TaskDaemon): string[] {
  const ofTask = new Set(lifeOfTask);
  return events
    .filter(({ subject, topic }) => subject === "c1/e1" || (subject === "c1" && !ofTask.has(topic)))
    .map(({ topic }) => topic);
}

async function killSupervisor(daemon: TaskDaemon): Promise<void> {
  const pid = await supervisorPid(daemon);
  process.kill(pid, "SIGKILL");
  await until("another serves", async () => (await supervisorPid(daemon)) !== pid);
}

async function sleepers(): Promise<number> {
  const processes = await descendantsOf(process.pid);
  return processes.filter(({ command }) => command === "sleep 7777").length;
}

async function supervisorPid({ ctx, manager }: TaskDaemon): Promise<number> {
  const [record] = manager.records.list();
  assert.ok(record);
  return (await record.link.ask(ctx, (tasks) => tasks.connect(ctx, ""))).shimPid;
}

suite("a supervisor killed between two steps", { concurrency: false }, () => {
  for (const at of ["recorded", "mounted", "made", "kept"]) {
    roomTest(
      `of create (${at}): the container is gone`,
      async (room) => {
        const daemon = await daemonWith(room, `shim.create-${at}`);
        await assert.rejects(create(daemon, room), /failed to create shim task: .*closed/);
        await until("the bundle is gone", async () => (await bundleNames(room)).length === 0);
        // Of one that was on record already the successor tells, and then of its end.
        const told = at === "kept" ? ["/tasks/create", "/tasks/exit", "/tasks/delete"] : [];
        await until("all is told", () => topics(daemon).length >= told.length);
        assert.deepEqual(topics(daemon), told);
        await assertGone(daemon, room);
      },
      { needs: ["runc"] },
    );
  }

  for (const at of ["made", "kept"]) {
    roomTest(
      `of start (${at}): the container runs`,
      async (room) => {
        const daemon = await daemonWith(room, `shim.start-${at}`);
        await assert.rejects(run(daemon, room), /closed/);
        assert.equal(await statusOf(daemon), running);
        await remove(daemon);
        await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
        assert.deepEqual(topics(daemon), lifeOfTask);
        await assertGone(daemon, room);
      },
      { needs: ["runc"] },
    );
  }

  roomTest(
    "of a pause, and of a resumption: the container is what its cgroup is, and that is told",
    async (room) => {
      const daemon = await daemonWith(room, "shim.pause-made");
      const { ctx, tasks } = daemon;
      await run(daemon, room);
      await assert.rejects(tasks.pause(ctx, { containerId: "c1" }), /closed/);
      assert.equal(await statusOf(daemon), paused);
      writeFileSync(join(room.dir, "failpoints"), "shim.resume-made=kill");
      await killSupervisor(daemon);
      assert.equal(await statusOf(daemon), paused);
      await assert.rejects(tasks.resume(ctx, { containerId: "c1" }), /closed/);
      assert.equal(await statusOf(daemon), running);
      await remove(daemon);
      await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
      const [before, after] = [lifeOfTask.slice(0, 2), lifeOfTask.slice(2)];
      assert.deepEqual(topics(daemon), [...before, "/tasks/paused", "/tasks/resumed", ...after]);
      await assertGone(daemon, room);
    },
    { needs: ["runc"] },
  );

  for (const at of ["written", "added"]) {
    roomTest(
      `of an exec's addition (${at}): it is there and told of, or its name is free`,
      async (room) => {
        const daemon = await daemonWith(room, `shim.exec-${at}`);
        const { ctx, tasks } = daemon;
        await run(daemon, room);
        await assert.rejects(exec(daemon), /closed/);
        if (at === "written") {
          await assert.rejects(statusOf(daemon, "e1"), { code: "not-found" });
          await exec(daemon);
        }
        await assert.rejects(exec(daemon), { code: "already-exists" });
        assert.equal(await statusOf(daemon, "e1"), created);
        await tasks.start(ctx, { containerId: "c1", execId: "e1" });
        assert.equal(await sleepers(), 1);
        await remove(daemon);
        await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
        assert.deepEqual(toldOfExec(daemon), lifeOfExec);
        await assertGone(daemon, room);
      },
      { needs: ["runc"] },
    );
  }

  roomTest(
    "of an exec's start (made): its process is gone, and it can be started again",
    async (room) => {
      const daemon = await daemonWith(room, "shim.exec-made");
      const { ctx, tasks } = daemon;
      await run(daemon, room);
      await exec(daemon);
      await assert.rejects(tasks.start(ctx, { containerId: "c1", execId: "e1" }), /closed/);
      assert.equal(await statusOf(daemon), running);
      assert.equal(await statusOf(daemon, "e1"), created);
      await until("its process has ended", async () => (await sleepers()) === 0);
      await tasks.start(ctx, { containerId: "c1", execId: "e1" });
      assert.equal(await sleepers(), 1);
      await remove(daemon);
      await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
      assert.deepEqual(toldOfExec(daemon), lifeOfExec);
      await assertGone(daemon, room);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "while an exec waits to be started: it can be started, or deleted, by each successor",
    async (room) => {
      const daemon = await startTaskDaemon(room, { supervisorLingerMs: 0 });
      const { ctx, tasks } = daemon;
      await run(daemon, room);
      for (const id of ["e1", "e2"]) await exec(daemon, id);
      for (let time = 0; time < 2; time++) {
        await killSupervisor(daemon);
        for (const id of ["e1", "e2"]) assert.equal(await statusOf(daemon, id), created);
      }
      await tasks.deleteProcess(ctx, { containerId: "c1", execId: "e2" });
      // Right after the answer.
      await killSupervisor(daemon);
      await assert.rejects(statusOf(daemon, "e2"), { code: "not-found" });
      await exec(daemon, "e2");
      const process = { containerId: "c1", execId: "e1" };
      await tasks.start(ctx, process);
      const exit = tasks.wait(ctx, process);
      await tasks.kill(ctx, { ...process, signal: SIGKILL });
      assert.equal((await exit).exitStatus, 137);
      await tasks.deleteProcess(ctx, process);
      await killSupervisor(daemon);
      await assert.rejects(statusOf(daemon, "e1"), { code: "not-found" });
      await remove(daemon);
      await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
      assert.deepEqual(topics(daemon).filter((topic) => topic === "/tasks/exec-added").length, 3);
      await assertGone(daemon, room);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "of an exec's start (called) under the name of the container's pid file: the container runs",
    async (room) => {
      const daemon = await daemonWith(room, "shim.exec-called");
      const { ctx, tasks } = daemon;
      await run(daemon, room);
      await exec(daemon, "init");
      await assert.rejects(tasks.start(ctx, { containerId: "c1", execId: "init" }), /closed/);
      assert.equal(await statusOf(daemon), running);
      await remove(daemon);
      await assertGone(daemon, room);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "of an exec's start (kept): the exec runs",
    async (room) => {
      const daemon = await daemonWith(room, "shim.exec-kept");
      const { ctx, tasks } = daemon;
      await run(daemon, room);
      await exec(daemon);
      const process = { containerId: "c1", execId: "e1" };
      await assert.rejects(tasks.start(ctx, process), /closed/);
      assert.equal(await statusOf(daemon, "e1"), running);
      const exit = tasks.wait(ctx, process);
      await tasks.kill(ctx, { ...process, signal: SIGKILL });
      assert.equal((await exit).exitStatus, 137);
      assert.equal((await tasks.deleteProcess(ctx, process)).exitStatus, 137);
      await remove(daemon);
      await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
      assert.deepEqual(toldOfExec(daemon), lifeOfExec);
      await assertGone(daemon, room);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "of an exec's end: its status stays, its pidfd does not",
    async (room) => {
      const daemon = await daemonWith(room, "shim.exec-ended");
      const { ctx, tasks } = daemon;
      await run(daemon, room);
      const first = await supervisorPid(daemon);
      await exec(daemon);
      const process = { containerId: "c1", execId: "e1" };
      await tasks.start(ctx, process);
      await tasks.kill(ctx, { ...process, signal: SIGKILL });
      await until("another serves", async () => (await supervisorPid(daemon)) !== first);
      assert.equal(await statusOf(daemon, "e1"), stopped);
      const files = await openFilesOf(await supervisorPid(daemon));
      assert.equal(files.filter((file) => file.includes("pidfd")).length, 1);
      assert.equal((await tasks.deleteProcess(ctx, process)).exitStatus, 137);
      await remove(daemon);
      await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
      assert.deepEqual(toldOfExec(daemon), lifeOfExec);
      await assertGone(daemon, room);
    },
    { needs: ["runc"] },
  );

  for (const at of ["made", "unmounted", "kept"]) {
    roomTest(
      `of delete (${at}): a retry finishes it, with the status it had`,
      async (room) => {
        const daemon = await daemonWith(room, `shim.delete-${at}`);
        const { ctx, tasks } = daemon;
        await run(daemon, room);
        await assert.rejects(remove(daemon), /closed/);
        try {
          assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 137);
        } catch (error) {
          // Where the supervisor was done with it the daemon cleans up by itself.
          assert.equal(codeOf(error), "not-found");
        }
        await until("its deletion is told", () => topics(daemon).includes("/tasks/delete"));
        // Where the record is gone the daemon tells of the end that it finds, as of Go's shim.
        const exits = daemon.events.filter(({ topic }) => topic === "/tasks/exit");
        const times = at === "kept" ? 2 : 1;
        assert.deepEqual(
          exits.map(({ exitStatus }) => exitStatus),
          Array.from({ length: times }, () => 137),
        );
        await assertGone(daemon, room);
      },
      { needs: ["runc"] },
    );
  }
});
