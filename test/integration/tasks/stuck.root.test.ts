import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { linux } from "#pkg/sys/linux.ts";
import { killIfThere, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  inputFifo,
  processSpec,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
} from "./harness.ts";

const SIGKILL = 9;
const running = 2;

/** Below the time that a supervisor waits for a runtime, and above that of any exec. */
const patienceMs = 30_000;

interface ContainerOptions {
  readonly script?: string;
  readonly terminal?: boolean;
  readonly stdin?: string;
  readonly stdout?: string;
  readonly binary?: string;
}

async function run(
  daemon: TaskDaemon,
  room: Room,
  id: string,
  options: ContainerOptions = {},
): Promise<void> {
  const { ctx, tasks } = daemon;
  const { script = "sleep 1000", terminal = false, stdin = "", stdout = "", binary } = options;
  await recordContainer(daemon, room, id, { args: shell(script), terminal });
  const value = toBinary(OptionsSchema, create(OptionsSchema, { binaryName: binary ?? "" }));
  await tasks.create(ctx, {
    containerId: id,
    rootfs: rootfsMounts(room),
    terminal,
    stdin,
    stdout,
    ...(binary !== undefined && { options: { typeUrl: OptionsSchema.typeName, value } }),
  });
  await tasks.start(ctx, { containerId: id });
}

async function addExec(daemon: TaskDaemon, containerId: string, execId: string): Promise<void> {
  const value = Buffer.from(JSON.stringify(processSpec(shell("exit 3"))));
  await daemon.tasks.exec(daemon.ctx, { containerId, execId, spec: { typeUrl: "", value } });
}

/** What a client does with the container `other`, all of which must be done in time. */
async function assertServed(daemon: TaskDaemon): Promise<void> {
  const ctx = daemon.ctx.withTimeout(patienceMs);
  const { tasks } = daemon;
  for (let n = 0; n < 5; n++) {
    const exec = { containerId: "other", execId: `e${n}` };
    await addExec(daemon, exec.containerId, exec.execId);
    const exit = tasks.wait(ctx, exec);
    await tasks.start(ctx, exec);
    assert.equal((await exit).exitStatus, 3);
    await tasks.deleteProcess(ctx, exec);
  }
  assert.equal((await tasks.list(ctx, {})).tasks.length, 2);
  assert.equal((await tasks.get(ctx, { containerId: "stuck" })).process?.status, running);
  await tasks.pause(ctx, { containerId: "other" });
  await tasks.resume(ctx, { containerId: "other" });
  assert.ok((await tasks.listPids(ctx, { containerId: "other" })).processes.length > 0);
  await tasks.metrics(ctx, { filters: ["id==other"] });
}

async function remove(daemon: TaskDaemon, id: string): Promise<void> {
  const { ctx, tasks } = daemon;
  const exit = tasks.wait(ctx, { containerId: id });
  await tasks.kill(ctx, { containerId: id, signal: SIGKILL });
  await exit;
  await tasks.delete(ctx, { containerId: id });
}

function setFrozen(room: Room, id: string, isFrozen: boolean): void {
  const v1 = join("/sys/fs/cgroup/freezer", room.namespace, id, "freezer.state");
  if (existsSync(v1)) writeFileSync(v1, isFrozen ? "FROZEN" : "THAWED");
  else {
    const v2 = join("/sys/fs/cgroup", room.namespace, id, "cgroup.freeze");
    writeFileSync(v2, isFrozen ? "1" : "0");
  }
}

suite("one stuck container delays no other", { concurrency: false }, () => {
  roomTest(
    "frozen, and asked for an exec",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      await run(daemon, room, "other");
      await run(daemon, room, "stuck");
      setFrozen(room, "stuck", true);
      await addExec(daemon, "stuck", "s1");
      const starting = tasks.start(ctx, { containerId: "stuck", execId: "s1" });
      starting.catch(() => undefined); // -- a runtime may refuse it; it must not stop the others
      await assertServed(daemon);
      setFrozen(room, "stuck", false);
      await Promise.allSettled([starting]);
      await remove(daemon, "stuck");
      await remove(daemon, "other");
    },
    { needs: ["runc"] },
  );

  roomTest(
    "its output read by nobody, pipes and FIFO full",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      await run(daemon, room, "other");
      const stdout = join(room.dir, "unread");
      linux.mkfifo(stdout, 0o600);
      const script = "while :; do echo 0123456789012345678901234567890123456789; done";
      await run(daemon, room, "stuck", { script, stdout });
      await assertServed(daemon);
      await remove(daemon, "stuck");
      await remove(daemon, "other");
    },
    { needs: ["runc"] },
  );

  roomTest(
    "its terminal full, in both directions",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      await run(daemon, room, "other");
      const stdout = join(room.dir, "unread");
      linux.mkfifo(stdout, 0o600);
      const stdin = inputFifo(room, "in");
      await run(daemon, room, "stuck", {
        script: "/bin/busybox stty -echo -icanon; sleep 1000",
        terminal: true,
        stdin: stdin.path,
        stdout,
      });
      // More than FIFO, copier and terminal hold together; nothing in there reads it.
      const { say } = stdin.open();
      say("x".repeat(1_000_000));
      await assertServed(daemon);
      await remove(daemon, "stuck");
      await remove(daemon, "other");
    },
    { needs: ["runc"] },
  );

  roomTest(
    "its runtime hanging in an exec and in a kill",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      // One for both, so that both have the same supervisor.
      const binary = join(room.dir, "runtime");
      const hang = `*" exec "*" stuck"|*" kill "*"stuck 15") echo $$ >>${room.dir}/hanging; exec sleep 1000;;`;
      const script = `#!/bin/sh\ncase "$*" in\n${hang}\nesac\nexec runc "$@"\n`;
      writeFileSync(binary, script, { mode: 0o755 });
      await run(daemon, room, "other", { binary });
      await run(daemon, room, "stuck", { binary });
      await addExec(daemon, "stuck", "s1");
      const calls = [
        tasks.start(ctx, { containerId: "stuck", execId: "s1" }),
        tasks.kill(ctx, { containerId: "stuck", signal: 15 }),
      ];
      const settled = Promise.allSettled(calls);
      writeFileSync(join(room.dir, "hanging"), "", { flag: "a" });
      const hanging = async (): Promise<string[]> => {
        const text = await readFile(join(room.dir, "hanging"), "utf8");
        return text.trim().split("\n").filter(Boolean);
      };
      await until("both hang", async () => (await hanging()).length === 2);
      await assertServed(daemon);
      for (const pid of await hanging()) killIfThere(Number(pid));
      assert.deepEqual(
        (await settled).map(({ status }) => status),
        ["rejected", "rejected"],
      );
      await remove(daemon, "stuck");
      await remove(daemon, "other");
    },
    { needs: ["runc"] },
  );
});
