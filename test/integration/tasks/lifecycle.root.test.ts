import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { codeOf } from "#pkg/errors.ts";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import {
  bundleNames,
  outputFifo,
  processSpec,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  untilText,
} from "./harness.ts";

roomTest(
  "a task runs from create to delete and says what happened in order",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    await recordContainer(daemon, room, "c1", { args: shell("echo hello; exit 7") });
    const stdout = outputFifo(room, "out");
    const created = await tasks.create(ctx, {
      containerId: "c1",
      rootfs: rootfsMounts(room),
      stdout: stdout.path,
    });
    assert.ok(created.pid > 0);
    const state = await tasks.get(ctx, { containerId: "c1" });
    assert.deepEqual(
      [state.process?.id, state.process?.status, state.process?.pid],
      ["c1", 1, created.pid],
    );
    const waiting = tasks.wait(ctx, { containerId: "c1" });
    const started = await tasks.start(ctx, { containerId: "c1" });
    assert.equal(started.pid, created.pid);
    const exit = await waiting;
    assert.equal(exit.exitStatus, 7);
    await untilText(stdout, /hello/);
    const deleted = await tasks.delete(ctx, { containerId: "c1" });
    assert.deepEqual([deleted.exitStatus, deleted.pid], [7, created.pid]);
    assert.deepEqual(deleted.exitedAt, exit.exitedAt);
    await until("the delete event", () => daemon.events.some((e) => e.topic === "/tasks/delete"));
    assert.deepEqual(
      daemon.events.map(
        (event) => `${event.namespace === room.namespace} ${event.topic} ${event.subject}`,
      ),
      ["create", "start", "exit", "delete"].map((topic) => `true /tasks/${topic} c1`),
    );
    assert.deepEqual(await bundleNames(room), []);
    assert.deepEqual(await readdir(join(room.dir, "root", room.namespace)), []);
    await assert.rejects(tasks.get(ctx, { containerId: "c1" }), (error: Error) => {
      assert.equal(codeOf(error), "not-found");
      assert.equal(error.message, "task c1 not found");
      return true;
    });
  },
  { needs: ["runc"] },
);

roomTest(
  "exec, kill, list and pids speak of the processes there are",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    await recordContainer(daemon, room, "c1", { args: shell("sleep 1000") });
    await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
    await tasks.start(ctx, { containerId: "c1" });
    const stdout = outputFifo(room, "out");
    await tasks.exec(ctx, {
      containerId: "c1",
      execId: "e1",
      stdout: stdout.path,
      spec: {
        typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
        value: Buffer.from(JSON.stringify(processSpec(shell("echo from exec; exit 3")))),
      },
    });
    const waiting = tasks.wait(ctx, { containerId: "c1", execId: "e1" });
    await tasks.start(ctx, { containerId: "c1", execId: "e1" });
    assert.equal((await waiting).exitStatus, 3);
    await untilText(stdout, /from exec/);
    const gone = await tasks.deleteProcess(ctx, { containerId: "c1", execId: "e1" });
    assert.deepEqual([gone.id, gone.exitStatus], ["e1", 3]);
    const { tasks: listed } = await tasks.list(ctx, {});
    assert.deepEqual(
      listed.map((task) => [task.id, task.status]),
      [["c1", 2]],
    );
    const { processes } = await tasks.listPids(ctx, { containerId: "c1" });
    assert.ok(processes.length >= 1);
    const exit = tasks.wait(ctx, { containerId: "c1" });
    await assert.rejects(
      tasks.delete(ctx, { containerId: "c1" }),
      /^CodedError: failed to delete task: cannot delete a running process$/,
    );
    await tasks.kill(ctx, { containerId: "c1", signal: 9 });
    assert.equal((await exit).exitStatus, 137);
    assert.deepEqual((await tasks.listPids(ctx, { containerId: "c1" })).processes, []);
    await assert.rejects(tasks.kill(ctx, { containerId: "c1", signal: 9 }), (error: Error) => {
      assert.equal(codeOf(error), "not-found");
      assert.match(error.message, /process already finished/);
      return true;
    });
    await tasks.delete(ctx, { containerId: "c1" });
    await until("the delete event", () => daemon.events.some((e) => e.topic === "/tasks/delete"));
    assert.deepEqual(
      daemon.events.map(({ topic, subject }) => `${topic} ${subject}`),
      [
        "/tasks/create c1",
        "/tasks/start c1",
        "/tasks/exec-added c1",
        "/tasks/exec-started c1",
        "/tasks/exit c1/e1",
        "/tasks/exit c1",
        "/tasks/delete c1",
      ],
    );
  },
  { needs: ["runc"] },
);

roomTest(
  "a task that cannot be created leaves nothing",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    await recordContainer(daemon, room, "c1", { args: ["/no/such/program"] });
    await assert.rejects(
      tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) }),
      /create shim task: OCI runtime create failed: .*\/no\/such\/program.*no such file/i,
    );
    assert.deepEqual(await bundleNames(room), []);
    assert.deepEqual(daemon.manager.records.list(), []);
    await recordContainer(daemon, room, "c2", {
      args: shell("true"),
      runtime: "io.containerd.none.v9",
    });
    await assert.rejects(
      tasks.create(ctx, { containerId: "c2", rootfs: rootfsMounts(room) }),
      /start shim: failed to resolve runtime path: runtime "io.containerd.none.v9" binary not/,
    );
    await assert.rejects(tasks.create(ctx, { containerId: "c3" }), (error: Error) => {
      assert.equal(codeOf(error), "not-found");
      return true;
    });
    // The same id works at the next try.
    await recordContainer(daemon, room, "c1", { args: shell("exit 0") });
    await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
    await assert.rejects(
      tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) }),
      (error: Error) =>
        codeOf(error) === "already-exists" && error.message === "task c1: already exists",
    );
    await tasks.start(ctx, { containerId: "c1" });
    await tasks.wait(ctx, { containerId: "c1" });
    await tasks.delete(ctx, { containerId: "c1" });
  },
  { needs: ["runc"] },
);

roomTest(
  "sixteen tasks at once each keep their own exit, output and order of events",
  async (room) => {
    const daemon = await startTaskDaemon(room);
    const { ctx, tasks } = daemon;
    const ids = Array.from({ length: 16 }, (_, index) => `c${index}`);
    await Promise.all(
      ids.map(async (id, index) => {
        await recordContainer(daemon, room, id, { args: shell(`echo I am ${id}; exit ${index}`) });
        const stdout = outputFifo(room, `${id}-out`);
        await tasks.create(ctx, {
          containerId: id,
          rootfs: rootfsMounts(room),
          stdout: stdout.path,
        });
        const exit = tasks.wait(ctx, { containerId: id });
        await tasks.start(ctx, { containerId: id });
        assert.equal((await exit).exitStatus, index);
        await untilText(stdout, new RegExp(`^I am ${id}\n$`));
        assert.equal((await tasks.delete(ctx, { containerId: id })).exitStatus, index);
      }),
    );
    await until("every delete event", () => {
      return daemon.events.filter((event) => event.topic === "/tasks/delete").length === ids.length;
    });
    for (const id of ids) {
      const topics = daemon.events.filter((event) => event.subject === id).map((e) => e.topic);
      const expected = ["create", "start", "exit", "delete"].map((topic) => `/tasks/${topic}`);
      assert.deepEqual(topics, expected);
    }
    assert.deepEqual(daemon.manager.records.list(), []);
  },
  { needs: ["runc"] },
);
