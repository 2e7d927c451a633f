import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "node:test";
import { linux } from "#pkg/sys/linux.ts";
import { openFilesOf, processInfo, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  inputFifo,
  outputFifo,
  type OutputFifo,
  processSpec,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
  untilText,
} from "./harness.ts";

const SIGKILL = 9;
const SIGTERM = 15;

interface Streams {
  readonly pid: number;
  readonly out: OutputFifo;
  readonly say: (text: string) => void;
  readonly hangUp: () => void;
}

/** A container whose streams are the room's FIFOs `<id>-in` and `<id>-out`. */
async function start(
  daemon: TaskDaemon,
  room: Room,
  id: string,
  how: { readonly args: readonly string[]; readonly terminal?: boolean },
): Promise<Streams> {
  const { ctx, tasks } = daemon;
  const { args, terminal = false } = how;
  await recordContainer(daemon, room, id, { args, terminal });
  const out = outputFifo(room, `${id}-out`);
  const stdin = inputFifo(room, `${id}-in`);
  const { pid } = await tasks.create(ctx, {
    containerId: id,
    rootfs: rootfsMounts(room),
    stdin: stdin.path,
    stdout: out.path,
    terminal,
  });
  const { say, close } = stdin.open();
  await tasks.start(ctx, { containerId: id });
  return { pid, out, say, hangUp: close };
}

/** An exec, likewise. */
async function exec(
  daemon: TaskDaemon,
  room: Room,
  execId: string,
  how: { readonly args: readonly string[]; readonly terminal?: boolean },
): Promise<Streams> {
  const { ctx, tasks } = daemon;
  const { args, terminal = false } = how;
  const out = outputFifo(room, `${execId}-out`);
  const stdin = inputFifo(room, `${execId}-in`);
  const value = Buffer.from(JSON.stringify(processSpec(args, terminal)));
  await tasks.exec(ctx, {
    containerId: "c1",
    execId,
    stdin: stdin.path,
    stdout: out.path,
    terminal,
    spec: { typeUrl: "", value },
  });
  const { say, close } = stdin.open();
  const { pid } = await tasks.start(ctx, { containerId: "c1", execId });
  return { pid, out, say, hangUp: close };
}

async function supervisorPid(daemon: TaskDaemon): Promise<number> {
  const [record] = daemon.manager.records.list();
  assert.ok(record);
  const { shimPid } = await record.link.ask(daemon.ctx, (tasks) => tasks.connect(daemon.ctx, ""));
  return shimPid;
}

/** Ends it; `meanwhile` runs when it is gone and before another one has taken over. */
async function killSupervisor(
  daemon: TaskDaemon,
  meanwhile: () => Promise<void> = async () => {},
  signal = SIGKILL,
): Promise<void> {
  const first = await supervisorPid(daemon);
  daemon.holdLaunches(meanwhile);
  linux.kill(first, signal);
  await until("another supervisor serves", async () => (await supervisorPid(daemon)) !== first);
}

async function remove(daemon: TaskDaemon, id: string): Promise<number> {
  const { ctx, tasks } = daemon;
  const exit = tasks.wait(ctx, { containerId: id });
  await tasks.kill(ctx, { containerId: id, signal: SIGKILL });
  await exit;
  return (await tasks.delete(ctx, { containerId: id })).exitStatus;
}

/** Pipes and terminals this process, which is the daemon, holds for a supervisor. */
async function heldHere(): Promise<number> {
  const files = await openFilesOf(process.pid);
  return files.filter((file) => /^pipe|ptmx|pidfd|-(in|out)$/.test(file)).length;
}

const ticking = shell("i=0; while :; do i=$((i+1)); echo tick $i; /bin/busybox usleep 20000; done");

suite("a supervisor killed while its containers run", { concurrency: false }, () => {
  for (const [name, signal] of [
    ["SIGKILL", SIGKILL],
    ["SIGTERM", SIGTERM],
  ] as const) {
    roomTest(
      `${name}: output goes on without a gap, and no writer dies`,
      async (room) => {
        const daemon = await startTaskDaemon(room);
        const { out } = await start(daemon, room, "c1", { args: ticking });
        await untilText(out, /tick 3\r?\n/);
        await killSupervisor(
          daemon,
          async () => {
            // Long enough that some is written while nobody copies.
            await new Promise((resolve) => setTimeout(resolve, 200));
          },
          signal,
        );
        const seen = out.text().split("\n").length;
        await until("it ticks on", () => out.text().split("\n").length > seen + 3);
        const lines = out.text().trimEnd().split("\n");
        lines.pop(); // -- perhaps half of one
        assert.deepEqual(
          lines,
          lines.map((_, i) => `tick ${i + 1}`),
        );
        assert.equal(await remove(daemon, "c1"), 137);
      },
      { needs: ["runc"] },
    );
  }

  roomTest(
    "input goes on, what was written meanwhile arrives, and CloseIO ends it",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const cat = shell("/bin/busybox cat; echo over; exit 4");
      const { out, say, hangUp } = await start(daemon, room, "c1", { args: cat });
      say("one\n");
      await untilText(out, /one/);
      await killSupervisor(daemon, async () => say("two\n"));
      say("three\n");
      await untilText(out, /one\ntwo\nthree\n/);
      const exit = tasks.wait(ctx, { containerId: "c1" });
      await tasks.closeIO(ctx, { containerId: "c1", stdin: true });
      // The client's own end is open: it has more to say.
      say("four\n");
      await untilText(out, /four/);
      // What was closed stays closed.
      await killSupervisor(daemon);
      hangUp();
      assert.equal((await exit).exitStatus, 4);
      assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 4);
      assert.equal(out.text(), "one\ntwo\nthree\nfour\nover\n");
    },
    { needs: ["runc"] },
  );

  roomTest(
    "terminals go on, of a container and of an exec: input, output, size, exit",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const loop = 'while read -r line; do eval "$line"; done';
      const init = await start(daemon, room, "c1", { args: shell(loop), terminal: true });
      const more = await exec(daemon, room, "e1", { args: shell(loop), terminal: true });
      for (const { say, out } of [init, more]) {
        say("echo a-$((1+1))\n");
        await untilText(out, /a-2/);
      }
      const gone = Promise.all([
        tasks.wait(ctx, { containerId: "c1", execId: "e1" }),
        tasks.wait(ctx, { containerId: "c1" }),
      ]);
      await killSupervisor(daemon, async () => more.say("echo m-$((2+1))\n"));
      await untilText(more.out, /m-3/);
      await tasks.resizePty(ctx, { containerId: "c1", width: 101, height: 33 });
      await tasks.resizePty(ctx, { containerId: "c1", execId: "e1", width: 77, height: 22 });
      for (const { say } of [init, more]) say("/bin/busybox stty size\n");
      await untilText(init.out, /33 101/);
      await untilText(more.out, /22 77/);
      // Again: what one successor took over goes to the next.
      await killSupervisor(daemon);
      more.say("exit 6\n");
      await until("the exec has ended", async () => {
        const { process } = await tasks.get(ctx, { containerId: "c1", execId: "e1" });
        return process?.status === 3;
      });
      await tasks.deleteProcess(ctx, { containerId: "c1", execId: "e1" });
      init.say("exit 7\n");
      assert.deepEqual(
        (await gone).map(({ exitStatus }) => exitStatus),
        [6, 7],
      );
      assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 7);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "a restarted daemon is given the descriptors again, and nothing is left of them",
    async (room) => {
      const before = await heldHere();
      const daemon = await startTaskDaemon(room);
      const args = shell('while read -r line; do eval "$line"; done');
      const { out, say } = await start(daemon, room, "c1", { args, terminal: true });
      await daemon.restart();
      await until("they came again", async () => (await heldHere()) > before + 4);
      await killSupervisor(daemon);
      say("echo b-$((1+1))\n");
      await untilText(out, /b-2/);
      assert.equal(await remove(daemon, "c1"), 137);
      out[Symbol.dispose]();
      await until("all are released", async () => (await heldHere()) <= before + 1);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "dead together with the daemon: terminals hang up, pipes and their containers go on",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const args = shell("trap 'exit 21' HUP; while :; do /bin/busybox sleep 0.1; done");
      const terminal = await start(daemon, room, "c1", { args, terminal: true });
      await recordContainer(daemon, room, "c2", { args: shell("/bin/busybox sleep 1000") });
      await tasks.create(ctx, { containerId: "c2", rootfs: rootfsMounts(room) });
      await tasks.start(ctx, { containerId: "c2" });
      const supervisor = await supervisorPid(daemon);
      await daemon.drop();
      linux.kill(supervisor, SIGKILL);
      await until("it hung up", async () => (await processInfo(terminal.pid)) === undefined);
      await daemon.start();
      const later = daemon.tasks;
      const { exitStatus } = await later.wait(ctx, { containerId: "c1" });
      // Nobody has its parenthood nor its pidfd: how it ended is unknown.
      assert.equal(exitStatus, 255);
      await later.delete(ctx, { containerId: "c1" });
      assert.equal((await later.get(ctx, { containerId: "c2" })).process?.status, 2);
      assert.equal(await remove(daemon, "c2"), 137);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "again and again: its container is never given up",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const { pid, say, out } = await start(daemon, room, "c1", {
        args: shell("/bin/busybox cat"),
      });
      for (let death = 1; death <= 6; death++) {
        await killSupervisor(daemon);
        say(`${death}\n`);
        await untilText(out, new RegExp(`${death}\n$`));
      }
      const { process } = await tasks.get(ctx, { containerId: "c1" });
      assert.deepEqual([process?.pid, process?.status], [pid, 2]);
      assert.equal(await remove(daemon, "c1"), 137);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "a logging program goes on by itself, and its container too",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const [log, logger] = [join(room.dir, "log"), join(room.dir, "logger")];
      const body = `exec 5>&-; exec cat <&3 >>${log}`;
      await writeFile(logger, `#!/bin/sh\nPATH=/bin:/usr/bin\n${body}\n`, { mode: 0o755 });
      await writeFile(log, "");
      await recordContainer(daemon, room, "c1", { args: ticking });
      const stdout = `binary://${logger}`;
      await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room), stdout });
      await tasks.start(ctx, { containerId: "c1" });
      const lines = async (): Promise<string[]> => (await readFile(log, "utf8")).split("\n");
      await until("it ticks", async () => (await lines()).length > 3);
      await killSupervisor(daemon);
      const seen = (await lines()).length;
      await until("it ticks on", async () => (await lines()).length > seen + 3);
      const complete = (await lines()).slice(0, -1);
      assert.deepEqual(
        complete,
        complete.map((_, i) => `tick ${i + 1}`),
      );
      assert.equal(await remove(daemon, "c1"), 137);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "an end between two supervisors is known by the pidfd that was handed over",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const args = shell("trap 'exit 11' TERM; while :; do /bin/busybox sleep 0.05; done");
      const { pid, out } = await start(daemon, room, "c1", { args });
      assert.equal(out.text(), "");
      const exit = tasks.wait(ctx, { containerId: "c1" });
      await killSupervisor(daemon, async () => {
        linux.kill(pid, SIGTERM);
        // Reaped by the test's own process, which adopts orphans, as init does elsewhere.
        await until("it is reaped", async () => (await processInfo(pid)) === undefined);
      });
      assert.equal((await exit).exitStatus, 11);
      assert.equal((await tasks.delete(ctx, { containerId: "c1" })).exitStatus, 11);
    },
    { needs: ["runc"] },
  );
});
