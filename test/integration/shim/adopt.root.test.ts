import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { create } from "@bufbuild/protobuf";
import { MountSchema } from "#api/types/mount_pb.ts";
import { pidsWithArgument, readProcStat } from "#shim/proc.ts";
import { openFilesOf } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import { execSpec, makeBundle, runcOptions } from "./bundle.ts";
import { OutputFifo } from "./fifo.ts";
import { holdsOnly, spawnSupervise, SupervisorFixture } from "./supervisor.ts";

const options = runcOptions({ binaryName: "runc" });

suite("a successor after SIGKILL", () => {
  roomTest("goes on with containers and execs: state, output, exec, exit codes", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const stdout = new OutputFifo(room, "out");
    const script = "trap 'echo bye; exit 9' TERM; echo up; while true; do sleep 0.05; done";
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", script] });
    const created = await shim.task.create(ctx, { id: "c1", bundle, options, stdout: stdout.path });
    await shim.task.start(ctx, { id: "c1" });
    await shim.task.exec(ctx, {
      id: "c1",
      execId: "e1",
      spec: execSpec(["sh", "-c", "trap 'exit 6' TERM; while true; do sleep 0.05; done"]),
    });
    await shim.task.start(ctx, { id: "c1", execId: "e1" });
    await stdout.until((text) => text.includes("up"));
    await shim.kill();
    await shim.restart();
    const state = await shim.task.state(ctx, { id: "c1" });
    assert.deepEqual([state.status, state.pid, state.stdout], [2, created.pid, stdout.path]);
    assert.equal((await shim.task.state(ctx, { id: "c1", execId: "e1" })).status, 2);
    await shim.task.exec(ctx, { id: "c1", execId: "e2", spec: execSpec(["sh", "-c", "exit 3"]) });
    await shim.task.start(ctx, { id: "c1", execId: "e2" });
    assert.equal((await shim.task.wait(ctx, { id: "c1", execId: "e2" })).exitStatus, 3);
    await shim.task.kill(ctx, { id: "c1", execId: "e1", signal: 15 });
    assert.equal((await shim.task.wait(ctx, { id: "c1", execId: "e1" })).exitStatus, 6);
    await shim.task.kill(ctx, { id: "c1", signal: 15 });
    assert.equal((await shim.task.wait(ctx, { id: "c1" })).exitStatus, 9);
    assert.equal((await shim.task.delete(ctx, { id: "c1" })).exitStatus, 9);
    assert.equal(await stdout.toEnd(), "up\nbye\n");
    await shim.waitForEvent((event) => event.topic === "/tasks/delete");
    assert.deepEqual(shim.topics("c1").slice(-3), [
      "/tasks/exit e1",
      "/tasks/exit c1",
      "/tasks/delete",
    ]);
  });

  roomTest("goes on after SIGTERM as well, which leaves the containers alone", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", "trap 'exit 5' TERM; sleep 1000"] });
    const { pid } = await shim.task.create(ctx, { id: "c1", bundle, options });
    await shim.task.start(ctx, { id: "c1" });
    assert.equal(await shim.terminate(), 0);
    assert.equal(existsSync(shim.socket), false);
    await shim.restart();
    assert.equal((await shim.task.state(ctx, { id: "c1" })).pid, pid);
    await shim.remove("c1");
  });

  roomTest("tells what ended before and while nobody looked", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const ended = makeBundle(room, "ended", { args: ["sh", "-c", "exit 21"] });
    const dies = makeBundle(room, "dies");
    await shim.task.create(ctx, { id: "ended", bundle: ended, options });
    await shim.task.start(ctx, { id: "ended" });
    await shim.task.wait(ctx, { id: "ended" });
    const { pid } = await shim.task.create(ctx, { id: "dies", bundle: dies, options });
    await shim.task.start(ctx, { id: "dies" });
    await shim.kill();
    process.kill(pid, "SIGKILL");
    await goneOrZombie(pid);
    await shim.restart();
    assert.equal((await shim.task.wait(ctx, { id: "ended" })).exitStatus, 21);
    // Seen as a zombie, or not at all once somebody has reaped it.
    const { exitStatus } = await shim.task.wait(ctx, { id: "dies" });
    assert.ok([137, 255].includes(exitStatus), String(exitStatus));
    await shim.waitForEvent((event) => event.topic === "/tasks/exit" && event.id === "dies");
    assert.equal((await shim.task.delete(ctx, { id: "ended" })).exitStatus, 21);
    await shim.task.delete(ctx, { id: "dies" });
  });

  roomTest("rolls back a creation that was cut short", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    // A runtime that never comes back from its create.
    const slow = join(room.dir, "slow");
    const hang = '*" create "*) while :; do sleep 0.1; done;;';
    const wrapper = `#!/bin/sh\ncase "$*" in\n${hang}\nesac\nexec runc "$@"\n`;
    writeFileSync(slow, wrapper, { mode: 0o755 });
    const bundle = makeBundle(room, "c1");
    const source = join(room.dir, "source");
    mkdirSync(source);
    const rootfs = [create(MountSchema, { type: "bind", source, options: ["rbind", "ro"] })];
    const creating = shim.task
      .create(ctx, { id: "c1", bundle, rootfs, options: runcOptions({ binaryName: slow }) })
      .catch(() => "lost"); // -- the connection goes with the supervisor
    await until(() => pidsWithArgument(`${bundle}/init.pid`).length > 0);
    assert.ok(mountinfo().includes(`${bundle}/rootfs`));
    await shim.kill();
    assert.equal(await creating, "lost");
    await shim.restart();
    assert.deepEqual(pidsWithArgument(`${bundle}/init.pid`), []);
    assert.equal(mountinfo().includes(`${bundle}/rootfs`), false);
    assert.equal(existsSync(join(bundle, "task.json")), false);
    await assert.rejects(shim.task.state(ctx, { id: "c1" }), /container not created: not found/);
  });

  roomTest("does not let others wait for a runtime that rolls back for ever", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const [stuck, slow] = [join(room.dir, "stuck"), join(room.dir, "slow")];
    writeFileSync(stuck, "");
    const hang = `*" create "*|*" delete "*) while [ -e ${stuck} ]; do sleep 0.1; done;;`;
    const wrapper = `#!/bin/sh\ncase "$*" in\n${hang}\nesac\nexec runc "$@"\n`;
    writeFileSync(slow, wrapper, { mode: 0o755 });
    await shim.task.create(ctx, { id: "c2", bundle: makeBundle(room, "c2"), options });
    await shim.task.start(ctx, { id: "c2" });
    const bundle = makeBundle(room, "c1");
    const request = { id: "c1", bundle, options: runcOptions({ binaryName: slow }) };
    const creating = shim.task.create(ctx, request).catch(() => "lost"); // -- as above
    await until(() => pidsWithArgument(`${bundle}/init.pid`).length > 0);
    await shim.kill();
    assert.equal(await creating, "lost");
    await shim.restart();
    assert.equal((await shim.task.state(ctx, { id: "c2" })).status, 2);
    assert.ok(existsSync(join(bundle, "task.json")));
    await assert.rejects(shim.task.create(ctx, request), /task c1: already exists/);
    rmSync(stuck);
    await until(() => !existsSync(join(bundle, "task.json")));
    await shim.task.create(ctx, request);
    await shim.task.start(ctx, { id: "c1" });
    await shim.remove("c1");
    await shim.remove("c2");
  });

  roomTest("rolls back many creations at once", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const [stuck, slow] = [join(room.dir, "stuck"), join(room.dir, "slow")];
    writeFileSync(stuck, "");
    const hang = `*" create "*|*" delete "*) while [ -e ${stuck} ]; do sleep 0.1; done;;`;
    writeFileSync(slow, `#!/bin/sh\ncase "$*" in\n${hang}\nesac\nexec runc "$@"\n`, {
      mode: 0o755,
    });
    const bundles = ["c1", "c2", "c3"].map((id) => ({ id, bundle: makeBundle(room, id) }));
    const creating = bundles.map((names) => {
      return shim.task.create(ctx, { ...names, options: runcOptions({ binaryName: slow }) });
    });
    const lost = Promise.allSettled(creating);
    await until(() =>
      bundles.every(({ bundle }) => pidsWithArgument(`${bundle}/init.pid`).length > 0),
    );
    await shim.kill();
    await lost;
    const since = performance.now();
    await shim.restart();
    const tookMs = performance.now() - since;
    rmSync(stuck);
    assert.ok(tookMs < 10_000, `${tookMs} ms`);
    await until(() => !bundles.some(({ bundle }) => existsSync(join(bundle, "task.json"))));
  });

  roomTest("says of none that it is gone because it could not be taken over", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const bundle = makeBundle(room, "c1");
    const { pid } = await shim.task.create(ctx, { id: "c1", bundle, options });
    await shim.task.start(ctx, { id: "c1" });
    await shim.kill();
    const [file, half] = [join(bundle, "task.json"), join(bundle, ".task.json.17.4")];
    const record = readFileSync(file);
    writeFileSync(file, "{");
    writeFileSync(half, "{");
    await shim.restart();
    await assert.rejects(shim.task.state(ctx, { id: "c1" }), { code: "unavailable" });
    await assert.rejects(shim.task.delete(ctx, { id: "c1" }), { code: "unavailable" });
    writeFileSync(file, record);
    const isThere = async (): Promise<boolean> => {
      return shim.task.state(ctx, { id: "c1" }).then(
        () => true,
        () => false, // -- not yet
      );
    };
    while (!(await isThere())) await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal((await shim.task.state(ctx, { id: "c1" })).pid, pid);
    assert.equal(existsSync(half), false);
    await shim.remove("c1");
  });

  roomTest("comes once: a second one finds the first, and no descriptors leak", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const startThree = async (): Promise<void> => {
      const lines = await Promise.all(
        Array.from({ length: 3 }, async () => (await spawnSupervise(room)).line),
      );
      for (const line of lines) {
        assert.equal((JSON.parse(line ?? "{}") as { pid?: number }).pid, shim.pid);
      }
    };
    await startThree();
    const before = await openFilesOf(shim.pid);
    await startThree();
    await holdsOnly(shim.pid, before);
    await shim.task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
    await shim.task.start(ctx, { id: "c1" });
    await shim.task.shutdown(ctx, { id: "c1" });
    assert.equal((await shim.task.connect(ctx, { id: "c1" })).shimPid, shim.pid);
    await shim.remove("c1");
  });
});

function mountinfo(): string {
  return readFileSync("/proc/self/mountinfo", "utf8");
}

async function goneOrZombie(pid: number): Promise<void> {
  await until(() => {
    const stat = readProcStat(pid);
    return stat === undefined || stat.state === "Z";
  });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}
