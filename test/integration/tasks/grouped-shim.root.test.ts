import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { linux } from "#pkg/sys/linux.ts";
import { debianProgram, newerProgram } from "#test/support/debian.ts";
import type { Need } from "#test/support/needs.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  bundleNames,
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
} from "./harness.ts";

const SIGKILL = 9;
const annotations = { "io.containerd.runc.v2.group": "g" };

interface Shim {
  readonly path: () => string;
  readonly needs: readonly Need[];
  /** Whether it leaves the status of an exit in the bundle (`exit.json`), as containerd 2.4's does. */
  readonly recordsExits: boolean;
}

const shims: Readonly<Record<string, Shim>> = {
  "Go's 1.6": {
    path: () => debianProgram("containerd-shim-runc-v2"),
    needs: ["runc"],
    recordsExits: false,
  },
  "Go's 2": {
    path: () => newerProgram("sid", "containerd-shim-runc-v2"),
    needs: ["runc", "sid"],
    recordsExits: false,
  },
  ours: {
    path: () => join(import.meta.dirname, "../../../bin/containerd-shim-runc-v2"),
    needs: ["runc"],
    recordsExits: true,
  },
};

async function run(
  daemon: TaskDaemon,
  room: Room,
  { id, script, shim }: { id: string; script: string; shim: Shim },
): Promise<number> {
  const { ctx, tasks } = daemon;
  const options = { args: shell(script), runtime: shim.path(), annotations };
  await recordContainer(daemon, room, id, options);
  const { pid } = await tasks.create(ctx, { containerId: id, rootfs: rootfsMounts(room) });
  await tasks.start(ctx, { containerId: id });
  return pid;
}

async function shimOf(daemon: TaskDaemon, room: Room, id: string): Promise<number> {
  const record = daemon.manager.records.get(room.namespace, id);
  assert.ok(record);
  // A shim that is killed leaves its socket, and no daemon takes it away.
  const { address } = record.link.bootstrap;
  room.resources.defer(() => rm(address.replace("unix://", ""), { force: true }));
  const { shimPid } = await record.link.ask(daemon.ctx, (tasks) => tasks.connect(daemon.ctx, id));
  return shimPid;
}

function toldOf(daemon: TaskDaemon, id: string): string[] {
  return daemon.events
    .filter(({ subject }) => subject === id)
    .map(({ topic, exitStatus }) => [topic.replace("/tasks/", ""), exitStatus].join(" ").trim());
}

for (const [name, shim] of Object.entries(shims)) {
  roomTest(
    `the death of a shim with a group of containers is told of each: ${name}`,
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      const pids = [
        await run(daemon, room, { id: "pause", script: "sleep 1000", shim }),
        await run(daemon, room, { id: "runs", script: "sleep 1000", shim }),
      ];
      for (const status of [42, 43]) {
        await run(daemon, room, { id: `ends${status}`, script: `exit ${status}`, shim });
        const exit = await tasks.wait(ctx, { containerId: `ends${status}` });
        assert.equal(exit.exitStatus, status);
      }
      const ids = ["pause", "runs", "ends42", "ends43"];
      const shimPids = await Promise.all(ids.map((id) => shimOf(daemon, room, id)));
      assert.equal(new Set(shimPids).size, 1);
      await until("every exit is told", () => {
        return ["ends42", "ends43"].every((id) => toldOf(daemon, id).length === 3);
      });
      const exit = tasks.wait(ctx, { containerId: "runs" });
      linux.kill(shimPids[0] ?? 0, SIGKILL);
      assert.equal((await exit).exitStatus, 137);
      await until("every deletion is told", () => {
        return ids.every((id) => toldOf(daemon, id).includes("delete"));
      });
      const killed = ["create", "start", "exit 137", "delete"];
      assert.deepEqual(toldOf(daemon, "pause"), killed);
      assert.deepEqual(toldOf(daemon, "runs"), killed);
      for (const status of [42, 43]) {
        const again = shim.recordsExits ? status : 137;
        const expected = ["create", "start", `exit ${status}`, `exit ${again}`, "delete"];
        assert.deepEqual(toldOf(daemon, `ends${status}`), expected);
      }
      for (const pid of pids) {
        await until("the process is gone", async () => (await processInfo(pid)) === undefined);
      }
      assert.deepEqual((await tasks.list(ctx, {})).tasks, []);
      await until("the bundles are gone", async () => (await bundleNames(room)).length === 0);
    },
    { needs: shim.needs },
  );

  roomTest(
    `the shim of a group ends with its last container, whichever that is: ${name}`,
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { ctx, tasks } = daemon;
      await run(daemon, room, { id: "pause", script: "sleep 1000", shim });
      await run(daemon, room, { id: "work", script: "sleep 1000", shim });
      const shimPid = await shimOf(daemon, room, "pause");
      for (const id of ["pause", "work"]) {
        assert.ok(await processInfo(shimPid), "it stays while it has a container");
        const exit = tasks.wait(ctx, { containerId: id });
        await tasks.kill(ctx, { containerId: id, signal: SIGKILL });
        assert.equal((await exit).exitStatus, 137);
        assert.equal((await tasks.delete(ctx, { containerId: id })).exitStatus, 137);
      }
      await until("the shim has ended", async () => (await processInfo(shimPid)) === undefined);
      for (const id of ["pause", "work"]) {
        const exits = toldOf(daemon, id).filter((line) => line.startsWith("exit"));
        assert.deepEqual(exits, ["exit 137"]);
      }
      assert.deepEqual(await bundleNames(room), []);
    },
    { needs: shim.needs },
  );
}
