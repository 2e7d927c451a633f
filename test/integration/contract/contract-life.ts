import assert from "node:assert/strict";
import { join } from "node:path";
import {
  inputFifo,
  outputFifo,
  rootfsMounts,
  shell,
  untilText,
} from "#test/integration/tasks/harness.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { type ContractTest, refuses } from "./contract-test.ts";
import type { TaskClient } from "./task-client.ts";

const sleeper = shell("sleep 1000");

/** From create to delete, execs and streams among it, and what is said to calls out of turn. */
export const lifeTests: readonly ContractTest[] = [
  [
    "a task runs from create to delete and is told of in order",
    async (client) => {
      const { ctx, tasks } = client;
      const stdout = outputFifo(client.room, "life-out");
      const stderr = outputFifo(client.room, "life-err");
      const io = { stdout: stdout.path, stderr: stderr.path };
      const pid = await client.create("life", shell("echo out; echo err >&2; exit 7"), io);
      const created = (await tasks.get(ctx, { containerId: "life" })).process;
      assert.deepEqual(
        [created?.id, created?.pid, created?.stdout, created?.stderr, created?.terminal],
        ["life", pid, io.stdout, io.stderr, false],
      );
      assert.equal(await client.status("life"), "created");
      const waiting = tasks.wait(ctx, { containerId: "life" });
      assert.equal((await tasks.start(ctx, { containerId: "life" })).pid, pid);
      const exit = await waiting;
      assert.equal(exit.exitStatus, 7);
      await untilText(stdout, /^out\n$/);
      await untilText(stderr, /^err\n$/);
      assert.equal(await client.status("life"), "stopped");
      const again = await tasks.wait(ctx, { containerId: "life" });
      assert.deepEqual([again.exitStatus, again.exitedAt], [7, exit.exitedAt]);
      const deleted = await tasks.delete(ctx, { containerId: "life" });
      assert.deepEqual(
        [deleted.id, deleted.pid, deleted.exitStatus, deleted.exitedAt],
        ["", pid, 7, exit.exitedAt],
      );
      await refuses(tasks.get(ctx, { containerId: "life" }), "not-found", "task life not found");
      await refuses(tasks.delete(ctx, { containerId: "life" }), "not-found", "task life not found");
      await client.assertTold("life", ["create", "start", "exit 7", "delete"]);
      const told = client.events.filter((event) => event.containerId === "life");
      const [create, , exited] = told;
      assert.ok(told.every((event) => event.pid === pid));
      assert.deepEqual([create?.io?.stdout, create?.io?.terminal], [io.stdout, false]);
      assert.match(create?.bundle ?? "", new RegExp(`/${client.room.namespace}/life$`));
      assert.equal(exited?.id, "life");
      assert.ok(told.every((event) => event.namespace === client.room.namespace));
      await client.containers.delete(ctx, { id: "life" });
    },
  ],
  [
    "what is not there is not found, by upstream's words",
    async (client) => {
      const { ctx, tasks, room } = client;
      const none = `container "none" in namespace "${room.namespace}": not found`;
      await refuses(tasks.create(ctx, { containerId: "none" }), "not-found", none);
      await refuses(tasks.get(ctx, { containerId: "none" }), "not-found", none);
      await client.record("bare", sleeper);
      const bare = { containerId: "bare" };
      const calls = [
        tasks.get(ctx, bare),
        tasks.start(ctx, bare),
        tasks.delete(ctx, bare),
        tasks.kill(ctx, { ...bare, signal: 9 }),
        tasks.pause(ctx, bare),
        tasks.resume(ctx, bare),
        tasks.listPids(ctx, bare),
        tasks.wait(ctx, bare),
        tasks.closeIO(ctx, { ...bare, stdin: true }),
        tasks.resizePty(ctx, { ...bare, width: 80, height: 24 }),
        tasks.update(ctx, bare),
        client.exec("bare", "e1", sleeper),
      ];
      await Promise.all(calls.map((call) => refuses(call, "not-found", "task bare not found")));
      await client.containers.delete(ctx, { id: "bare" });
    },
  ],
  [
    "a created task takes execs, and nothing that needs it to run",
    async (client) => {
      const { ctx, tasks } = client;
      await client.create("made", sleeper);
      const made = { containerId: "made" };
      const rootfs = rootfsMounts(client.room);
      const twice = tasks.create(ctx, { ...made, rootfs });
      await refuses(twice, "already-exists", "task made: already exists");
      await refuses(tasks.pause(ctx, made), "unknown", "cannot pause task in created state");
      await refuses(tasks.resume(ctx, made), "unknown", "cannot resume task in created state");
      await client.exec("made", "e1", shell("exit 4"));
      const exit = tasks.wait(ctx, { ...made, execId: "e1" });
      await tasks.start(ctx, { ...made, execId: "e1" });
      assert.equal((await exit).exitStatus, 4);
      await tasks.deleteProcess(ctx, { ...made, execId: "e1" });
      await tasks.kill(ctx, { ...made, signal: 9 });
      assert.equal((await tasks.wait(ctx, made)).exitStatus, 137);
      assert.equal(await client.delete("made"), 137);
    },
  ],
  [
    "a task that was never started can be deleted",
    async (client) => {
      const pid = await client.create("unused", sleeper);
      await client.delete("unused");
      await until("its process is gone", async () => (await processInfo(pid)) === undefined);
    },
  ],
  [
    "a running task refuses to be started, resumed or deleted",
    async (client) => {
      const { ctx, tasks } = client;
      await client.run("runs", sleeper);
      const runs = { containerId: "runs" };
      assert.equal(await client.status("runs"), "running");
      await refuses(tasks.start(ctx, runs), "unknown", "cannot start a running process");
      await refuses(tasks.resume(ctx, runs), "unknown", "cannot resume a running process");
      await refuses(
        tasks.delete(ctx, runs),
        "unknown",
        "failed to delete task: cannot delete a running process",
      );
      await tasks.kill(ctx, { ...runs, signal: 0 });
      const unheard = tasks.kill(ctx, { ...runs, signal: 99 });
      await refuses(unheard, "unknown", /^unknown error after kill: .*invalid argument/is);
      assert.equal(await client.status("runs"), "running");
      const listed = (await tasks.list(ctx, {})).tasks.map(({ id, status }) => [id, status]);
      assert.deepEqual(listed, [["runs", 2]]);
      assert.equal(await client.remove("runs"), 137);
    },
  ],
  [
    "a stopped task takes nothing but to be asked and deleted",
    async (client) => {
      const { ctx, tasks } = client;
      await client.run("ended", shell("exit 3"));
      const ended = { containerId: "ended" };
      await tasks.wait(ctx, ended);
      const finished = "process already finished: not found";
      await refuses(tasks.kill(ctx, { ...ended, signal: 9 }), "not-found", finished);
      await refuses(tasks.start(ctx, ended), "unknown", "cannot start a stopped process");
      await refuses(tasks.pause(ctx, ended), "unknown", "cannot pause a stopped container");
      await refuses(tasks.resume(ctx, ended), "unknown", "cannot resume a stopped container");
      const exec = client.exec("ended", "e1", sleeper);
      await refuses(exec, "unknown", "cannot exec in a stopped state");
      await tasks.closeIO(ctx, { ...ended, stdin: true });
      assert.equal(await client.delete("ended"), 3);
    },
  ],
  [
    "an exec has a life of its own",
    async (client) => {
      const { ctx, tasks } = client;
      const pid = await client.run("host", sleeper);
      const e1 = { containerId: "host", execId: "e1" };
      await client.exec("host", "e1", sleeper);
      await refuses(client.exec("host", "e1", sleeper), "already-exists", "id e1: already exists");
      assert.equal(await client.status("host", "e1"), "created");
      const early = tasks.kill(ctx, { ...e1, signal: 9 });
      await refuses(early, "failed-precondition", "process not created: failed precondition");
      const { pid: execPid } = await tasks.start(ctx, e1);
      assert.equal(await client.status("host", "e1"), "running");
      await refuses(tasks.deleteProcess(ctx, e1), "unknown", "cannot delete a running process");
      const { processes } = await tasks.listPids(ctx, { containerId: "host" });
      const told = processes.map((process) => [process.pid, process.info?.typeUrl ?? ""]);
      const byPid = told.toSorted(([a], [b]) => Number(a) - Number(b));
      assert.deepEqual(byPid, [
        [pid, ""],
        [execPid, "containerd.runc.v1.ProcessDetails"],
      ]);
      const exit = tasks.wait(ctx, e1);
      await tasks.kill(ctx, { ...e1, signal: 15 });
      const { exitStatus, exitedAt } = await exit;
      assert.equal(exitStatus, 143);
      const late = tasks.kill(ctx, { ...e1, signal: 9 });
      await refuses(late, "not-found", "process already finished: not found");
      assert.equal(await client.status("host", "e1"), "stopped");
      const deleted = await tasks.deleteProcess(ctx, e1);
      assert.deepEqual(
        [deleted.id, deleted.pid, deleted.exitStatus, deleted.exitedAt],
        ["e1", execPid, 143, exitedAt],
      );
      assert.equal(await client.status("host"), "running");
      assert.equal(await client.remove("host"), 137);
      await client.assertTold("host", [
        "create",
        "start",
        "exec-added e1",
        "exec-started e1",
        "exit e1 143",
        "exit 137",
        "delete",
      ]);
    },
  ],
  [
    "ids of execs are checked, and those nobody has are not found",
    async (client) => {
      const { ctx, tasks } = client;
      await client.run("ids", sleeper);
      const zz = { containerId: "ids", execId: "zz" };
      const none = "process does not exist zz: not found";
      const calls = [
        tasks.get(ctx, zz),
        tasks.wait(ctx, zz),
        tasks.kill(ctx, { ...zz, signal: 9 }),
        tasks.start(ctx, zz),
        tasks.deleteProcess(ctx, zz),
        tasks.closeIO(ctx, { ...zz, stdin: true }),
        tasks.resizePty(ctx, { ...zz, width: 80, height: 24 }),
      ];
      await Promise.all(calls.map((call) => refuses(call, "not-found", none)));
      const empty = client.exec("ids", "", sleeper);
      await refuses(empty, "invalid-argument", "exec id cannot be empty");
      const bad = client.exec("ids", "a b", sleeper);
      await refuses(bad, "invalid-argument", /identifier "a b" must match .*: invalid argument$/);
      await client.exec("ids", "e1", ["/no/such/program"]);
      const start = tasks.start(ctx, { containerId: "ids", execId: "e1" });
      await refuses(
        start,
        "unknown",
        /^OCI runtime exec failed: .*\/no\/such\/program.*: no such/i,
      );
      await tasks.deleteProcess(ctx, { containerId: "ids", execId: "e1" });
      assert.equal(await client.status("ids"), "running");
      assert.equal(await client.remove("ids"), 137);
      await client.assertTold("ids", ["create", "start", "exec-added e1", "exit 137", "delete"]);
    },
  ],
  [
    "the exit of the first process is told after those of the execs it takes along",
    async (client) => {
      const { ctx, tasks } = client;
      await client.run("crowd", sleeper);
      const execIds = ["e1", "e2", "e3"];
      for (const execId of execIds) {
        await client.exec("crowd", execId, sleeper);
        await tasks.start(ctx, { containerId: "crowd", execId });
      }
      const exits = execIds.map((execId) => tasks.wait(ctx, { containerId: "crowd", execId }));
      assert.equal(await client.remove("crowd"), 137);
      for (const exit of await Promise.all(exits)) assert.equal(exit.exitStatus, 137);
      const before = ["create", "start"];
      for (const id of execIds) before.push(`exec-added ${id}`, `exec-started ${id}`);
      await until("the task's exit is told", () => client.topics("crowd").includes("exit 137"));
      // Which of the three comes first is nobody's promise.
      const exitLines = client.topics("crowd").slice(before.length, before.length + 3);
      assert.deepEqual(
        exitLines.toSorted(),
        execIds.map((id) => `exit ${id} 137`),
      );
      await client.assertTold("crowd", [...before, ...exitLines, "exit 137", "delete"]);
    },
  ],
  [
    "input reaches the process, and so does its end",
    async (client) => {
      const { ctx, tasks, room } = client;
      const stdin = inputFifo(room, "cat-in");
      const stdout = outputFifo(room, "cat-out");
      const stderr = outputFifo(room, "cat-err");
      const io = { stdin: stdin.path, stdout: stdout.path, stderr: stderr.path };
      await client.create("cat", ["/bin/busybox", "cat"], io);
      const ownEnd = stdin.open();
      const exit = tasks.wait(ctx, { containerId: "cat" });
      await tasks.start(ctx, { containerId: "cat" });
      ownEnd.say("one\n");
      await untilText(stdout, /^one\n$/);
      // The end comes when the shim has closed its end of the FIFO and the client its own.
      await tasks.closeIO(ctx, { containerId: "cat", stdin: true });
      ownEnd.close();
      assert.equal((await exit).exitStatus, 0);
      assert.equal(await client.delete("cat"), 0);
    },
  ],
  [
    "a terminal has the size it was given, and its shell's end is the task's",
    async (client) => {
      const { ctx, tasks, room } = client;
      const stdin = inputFifo(room, "tty-in");
      const stdout = outputFifo(room, "tty-out");
      const io = { stdin: stdin.path, stdout: stdout.path, terminal: true };
      await client.create("tty", ["/bin/busybox", "sh"], io);
      const { say } = stdin.open();
      const exit = tasks.wait(ctx, { containerId: "tty" });
      await tasks.start(ctx, { containerId: "tty" });
      await tasks.resizePty(ctx, { containerId: "tty", width: 117, height: 43 });
      say("/bin/busybox stty size\n");
      await untilText(stdout, /43 117/);
      assert.equal((await tasks.get(ctx, { containerId: "tty" })).process?.terminal, true);
      say("exit 9\n");
      assert.equal((await exit).exitStatus, 9);
      assert.equal(await client.delete("tty"), 9);
    },
  ],
  [
    "a task that cannot be created leaves its name free",
    async (client) => {
      const { ctx, tasks, room } = client;
      const rootfs = rootfsMounts(room);
      const failing = async (
        words: RegExp,
        how: Parameters<TaskClient["record"]>,
      ): Promise<void> => {
        await client.record(...how);
        await refuses(tasks.create(ctx, { containerId: how[0], rootfs }), "unknown", words);
        await client.containers.delete(ctx, { id: how[0] });
      };
      const noProgram =
        /^failed to create shim task: OCI runtime create failed: .*\/no\/such.*: no such/is;
      await failing(noProgram, ["fails", ["/no/such"]]);
      const words =
        'failed to start shim: failed to resolve runtime path: runtime "io.containerd.none.v9" binary ' +
        'not installed "containerd-shim-none-v9": file does not exist';
      const noRuntime = new RegExp(`^${words}$`);
      await failing(noRuntime, ["fails", sleeper, { runtime: "io.containerd.none.v9" }]);
      const noName =
        /^failed to start shim: failed to resolve runtime path: invalid runtime name bin\/sh, /;
      await failing(noName, ["fails", sleeper, { runtime: "bin/sh" }]);
      await client.record("fails", sleeper);
      const source = join(room.dir, "none");
      const mount = {
        containerId: "fails",
        rootfs: [{ type: "bind", source, options: ["rbind"] }],
      };
      const noMount = /^failed to create shim task: failed to mount rootfs component.*no such file/;
      await refuses(tasks.create(ctx, mount), "unknown", noMount);
      await client.containers.delete(ctx, { id: "fails" });
      await client.run("fails", sleeper);
      assert.equal(await client.remove("fails"), 137);
      await client.assertTold("fails", ["create", "start", "exit 137", "delete"]);
    },
  ],
];
