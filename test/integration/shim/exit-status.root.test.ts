import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { suite } from "node:test";
import { silentLogger } from "#pkg/log.ts";
import { SyscallError } from "#pkg/sys/errno.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { watchAdopted } from "#shim/adopted-process.ts";
import { BackgroundTasks } from "#shim/background-tasks.ts";
import { readProcStat } from "#shim/proc.ts";
import type { Exit } from "#shim/process-state.ts";
import type { ShimServices } from "#shim/shim-services.ts";
import { TaskProcess } from "#shim/task-process.ts";
import type { ProcessRecord } from "#shim/task-record.ts";
import { until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

/** A process whose parent is not this one: `end` has it end, the parent reaps it or does not. */
interface Stranger {
  readonly record: ProcessRecord;
  readonly end: () => void;
}

async function strangerIn(
  room: Room,
  how: { readonly script: string; readonly parent: "reaps" | "leaves" },
): Promise<Stranger> {
  const then = how.parent === "reaps" ? "wait; exec sleep 1000" : "exec sleep 1000";
  // A background process has no standard input of its own: it reads what the parent got as 3.
  const script = `(read -r x <&3; ${how.script}) & echo $!; ${then}`;
  const stdio = ["ignore", "pipe", "inherit", "pipe"] as const;
  const parent: ChildProcess = spawn("/bin/sh", ["-c", script], { stdio: [...stdio] });
  const go = parent.stdio[3];
  assert.ok(go && "write" in go);
  go.on("error", () => {}); // -- told to end twice, the second time there is nobody
  const end = (): void => void go.write("\n");
  room.resources.defer(async () => {
    end();
    const ended = once(parent, "exit");
    parent.kill("SIGKILL");
    await ended;
  });
  assert.ok(parent.stdout);
  const [line] = (await once(createInterface({ input: parent.stdout }), "line")) as [string]; // -- a line's event
  const pid = Number(line);
  const startTime = readProcStat(pid)?.startTime ?? "";
  return { record: { pid, startTime, pipes: {} }, end };
}

function watch(
  record: ProcessRecord,
  options: { readonly sys?: Syscalls; readonly pidfd?: number; readonly known?: Exit } = {},
): Promise<{ hadEnded: boolean; exit: Exit; closed: () => void }> {
  const sys = options.sys ?? linux;
  const { promise, resolve } = Promise.withResolvers<Exit>();
  const name = { containerId: "c1", execId: "" };
  const stdio = { stdin: "", stdout: "", stderr: "", terminal: false };
  const process = new TaskProcess(name, stdio, { exit: resolve, endsChanged: () => {} });
  if (options.pidfd !== undefined) process.keepPidfd(sys, options.pidfd);
  // -- all that is used of the services
  const services = { sys, tasks: new BackgroundTasks(silentLogger) } as unknown as ShimServices;
  const looked = watchAdopted(services, process, record, options.known);
  return Promise.all([looked, promise]).then(([hadEnded, exit]) => {
    return { hadEnded, exit, closed: () => process.releasePidfd() };
  });
}

async function statusOf(watching: ReturnType<typeof watch>): Promise<number> {
  const { exit, closed } = await watching;
  closed();
  return exit.status;
}

const without = (errno: "ENOTTY" | "ESRCH"): Syscalls => ({
  ...linux,
  pidfdGetInfo: () => {
    throw new SyscallError(errno, "pidfd_get_info");
  },
});

suite("the exit status of a process that an earlier supervisor had made", () => {
  roomTest("is read while it is a zombie, an exit code and a signal", async (room) => {
    for (const [script, status] of [
      ["exit 23", 23],
      ["kill -9 $(exec sh -c 'echo $PPID')", 137],
    ] as const) {
      const { record, end } = await strangerIn(room, { script, parent: "leaves" });
      // A kernel that keeps nothing of the dead is enough for this.
      const watching = watch(record, { sys: without("ENOTTY") });
      end();
      assert.equal(await statusOf(watching), status);
    }
  });

  roomTest("is told by the kernel once it is reaped", async (room) => {
    const { record, end } = await strangerIn(room, { script: "exit 24", parent: "reaps" });
    const pidfd = linux.pidfdOpen(record.pid);
    end();
    await until("it is reaped", () => readProcStat(record.pid) === undefined);
    const { hadEnded, exit, closed } = await watch(record, { pidfd });
    closed();
    assert.deepEqual([hadEnded, exit.status], [true, 24]);
  });

  roomTest("is known also when it ends and is reaped between two looks", async (room) => {
    const { record, end } = await strangerIn(room, { script: "exit 25", parent: "reaps" });
    const watching = watch(record);
    end();
    assert.equal(await statusOf(watching), 25);
  });

  roomTest("is 255 where nobody can tell", async (room) => {
    const { record, end } = await strangerIn(room, { script: "exit 26", parent: "reaps" });
    const pidfds = [linux.pidfdOpen(record.pid), linux.pidfdOpen(record.pid)];
    end();
    await until("it is reaped", () => readProcStat(record.pid) === undefined);
    assert.equal(await statusOf(watch(record)), 255);
    for (const [i, errno] of (["ENOTTY", "ESRCH"] as const).entries()) {
      const pidfd = pidfds[i];
      assert.ok(pidfd !== undefined);
      assert.equal(await statusOf(watch(record, { sys: without(errno), pidfd })), 255);
    }
  });

  roomTest("is not that of another process with its number", async (room) => {
    const { record } = await strangerIn(room, { script: "exit 27", parent: "leaves" });
    assert.equal(await statusOf(watch({ ...record, startTime: "1" })), 255);
  });

  roomTest("is what was recorded, where it was", async (room) => {
    const { record } = await strangerIn(room, { script: "exit 28", parent: "leaves" });
    const known = { pid: record.pid, status: 9, at: 5n };
    const { hadEnded, exit } = await watch(record, { known });
    assert.deepEqual([hadEnded, exit], [true, known]);
  });
});
