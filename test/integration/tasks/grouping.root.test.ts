import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { linux } from "#pkg/sys/linux.ts";
import { until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import {
  recordContainer,
  rootfsMounts,
  shell,
  startTaskDaemon,
  type TaskDaemon,
} from "./harness.ts";

const SIGKILL = 9;

type RuncOptions = { shimCgroup?: string; binaryName?: string };

async function run(
  daemon: TaskDaemon,
  room: Room,
  id: string,
  options: RuncOptions = {},
): Promise<void> {
  const { ctx, tasks } = daemon;
  await recordContainer(daemon, room, id, { args: shell("sleep 1000") });
  const value = toBinary(OptionsSchema, create(OptionsSchema, options));
  await tasks.create(ctx, {
    containerId: id,
    rootfs: rootfsMounts(room),
    ...(value.length > 0 && { options: { typeUrl: OptionsSchema.typeName, value } }),
  });
  await tasks.start(ctx, { containerId: id });
}

async function remove(daemon: TaskDaemon, id: string): Promise<void> {
  const { ctx, tasks } = daemon;
  const exit = tasks.wait(ctx, { containerId: id });
  await tasks.kill(ctx, { containerId: id, signal: SIGKILL });
  await exit;
  await tasks.delete(ctx, { containerId: id });
}

async function supervisorOf(daemon: TaskDaemon, id: string): Promise<number> {
  const record = daemon.manager.records.list().find((it) => it.id === id);
  assert.ok(record);
  const { shimPid } = await record.link.ask(daemon.ctx, (tasks) => tasks.connect(daemon.ctx, id));
  return shimPid;
}

/** Removed when what is in it has gone. */
function makeCgroup(room: Room, name: string): string {
  const hierarchy = "/sys/fs/cgroup";
  const root = existsSync(join(hierarchy, "cgroup.controllers"))
    ? hierarchy
    : join(hierarchy, "pids");
  const path = join(root, name);
  mkdirSync(path);
  room.resources.defer(async () => {
    await until(
      "the cgroup is empty",
      () => readFileSync(join(path, "cgroup.procs"), "utf8") === "",
    );
    rmdirSync(path);
  });
  return path;
}

roomTest(
  "a ShimCgroup is really joined, its containers share a process, and a successor joins it too",
  async (room) => {
    const name = `shims-${room.namespace}`;
    const path = makeCgroup(room, name);
    const daemon = await startTaskDaemon(room, { supervisorLingerMs: 0 });
    const inCgroup = { shimCgroup: `/${name}` };
    await run(daemon, room, "plain");
    await run(daemon, room, "c1", inCgroup);
    await run(daemon, room, "c2", inCgroup);
    const first = await supervisorOf(daemon, "c1");
    assert.equal(await supervisorOf(daemon, "c2"), first);
    assert.notEqual(await supervisorOf(daemon, "plain"), first);
    const members = async (): Promise<string[]> =>
      (await readFile(join(path, "cgroup.procs"), "utf8")).trim().split("\n");
    assert.deepEqual(await members(), [String(first)]);
    await daemon.restart();
    linux.kill(first, SIGKILL);
    await until("a successor", async () => (await supervisorOf(daemon, "c1")) !== first);
    assert.deepEqual(await members(), [String(await supervisorOf(daemon, "c1"))]);
    for (const id of ["plain", "c1", "c2"]) await remove(daemon, id);
  },
  { needs: ["runc"] },
);

roomTest("a ShimCgroup that is not there fails the create and leaves nothing", async (room) => {
  const daemon = await startTaskDaemon(room);
  await assert.rejects(
    run(daemon, room, "c1", { shimCgroup: `/none-${room.namespace}` }),
    /failed to (load|join) cgroup \/none-/,
  );
  assert.deepEqual(daemon.manager.records.list(), []);
});

roomTest(
  "containers with a runtime binary of their own have a supervisor of their own",
  async (room) => {
    const daemon = await startTaskDaemon(room, { supervisorLingerMs: 0 });
    await run(daemon, room, "plain");
    await run(daemon, room, "c1", { binaryName: "runc" });
    await run(daemon, room, "c2", { binaryName: "runc" });
    const first = await supervisorOf(daemon, "c1");
    assert.equal(await supervisorOf(daemon, "c2"), first);
    assert.notEqual(await supervisorOf(daemon, "plain"), first);
    for (const id of ["plain", "c1", "c2"]) await remove(daemon, id);
  },
  { needs: ["runc"] },
);

roomTest(
  "grouping `container`: the death of one supervisor concerns one container",
  async (room) => {
    const groups = { grouping: "container", hasSchedCore: false, oomScore: 0 } as const;
    const daemon = await startTaskDaemon(room, { supervisorLingerMs: 0, groups });
    await run(daemon, room, "c1");
    await run(daemon, room, "c2");
    const [first, second] = [await supervisorOf(daemon, "c1"), await supervisorOf(daemon, "c2")];
    assert.notEqual(first, second);
    linux.kill(first, SIGKILL);
    await until("a successor", async () => (await supervisorOf(daemon, "c1")) !== first);
    assert.equal(await supervisorOf(daemon, "c2"), second);
    for (const id of ["c1", "c2"]) await remove(daemon, id);
  },
  { needs: ["runc"] },
);
