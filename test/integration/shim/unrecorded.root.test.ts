import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import { execSpec, makeBundle, runcOptions } from "./bundle.ts";
import { SupervisorFixture } from "./supervisor.ts";

const options = runcOptions({ binaryName: "runc" });
const [created, running, stopped] = [1, 2, 3];

/** Nothing can be written to where a directory stands. */
function keepFromRecording(bundle: string): { readonly end: () => Promise<void> } {
  const file = join(bundle, "task.json");
  rmSync(file);
  mkdirSync(file);
  const isRecord = (): boolean => existsSync(file) && statSync(file).isFile();
  return {
    end: async () => {
      rmdirSync(file);
      await until("the task is recorded", isRecord);
    },
  };
}

function phaseOf(bundle: string): unknown {
  const record: unknown = JSON.parse(readFileSync(join(bundle, "task.json"), "utf8"));
  return (record as { phase?: unknown }).phase; // -- our own record
}

suite("a supervisor that cannot record", { concurrency: false }, () => {
  roomTest("fails a creation, and nothing is left of it", async (room) => {
    const failpoints = join(room.dir, "failpoints");
    writeFileSync(failpoints, "shim.record=error");
    const shim = await SupervisorFixture.start(room, { CONTAINERD_SHIM_FAILPOINTS: failpoints });
    const { ctx } = shim;
    const bundle = makeBundle(room, "c1");
    const request = { id: "c1", bundle, options };
    await assert.rejects(shim.task.create(ctx, request), /failpoint shim\.record/);
    await assert.rejects(shim.task.state(ctx, { id: "c1" }), { code: "not-found" });
    assert.equal(existsSync(join("/run/containerd/runc", room.namespace, "c1")), false);
    assert.equal(existsSync(join(bundle, "task.json")), false);
    await shim.kill();
    await shim.restart();
    await shim.task.create(ctx, request);
    await shim.remove("c1");
    await shim.waitForEvent(({ topic }) => topic === "/tasks/delete");
    assert.deepEqual(shim.topics("c1"), ["/tasks/create", "/tasks/exit c1", "/tasks/delete"]);
  });

  roomTest("records as soon as it can what has happened meanwhile", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const bundle = makeBundle(room, "c1");
    await shim.task.create(ctx, { id: "c1", bundle, options });
    const disk = keepFromRecording(bundle);
    await shim.task.start(ctx, { id: "c1" });
    await disk.end();
    assert.equal(phaseOf(bundle), "running");
    await shim.kill();
    await shim.restart();
    assert.equal((await shim.task.state(ctx, { id: "c1" })).status, running);
    await shim.remove("c1");
    await shim.waitForEvent(({ topic }) => topic === "/tasks/delete");
    assert.equal(shim.topics("c1").filter((topic) => topic === "/tasks/start").length, 1);
  });

  roomTest("adds no exec, and lets none run that a successor would end", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    const bundle = makeBundle(room, "c1");
    await shim.task.create(ctx, { id: "c1", bundle, options });
    await shim.task.start(ctx, { id: "c1" });
    const spec = execSpec(["sleep", "1000"]);
    const [first, second] = [
      { id: "c1", execId: "e1" },
      { id: "c1", execId: "e2" },
    ];
    await shim.task.exec(ctx, { ...first, spec });
    const disk = keepFromRecording(bundle);
    await assert.rejects(shim.task.exec(ctx, { ...second, spec }), /exec e2: EISDIR/);
    await assert.rejects(shim.task.state(ctx, second), { code: "not-found" });
    await assert.rejects(shim.task.start(ctx, first), /exec e1: EISDIR/);
    assert.equal((await shim.task.wait(ctx, first)).exitStatus, 137);
    assert.equal((await shim.task.state(ctx, first)).status, stopped);
    await disk.end();
    await shim.task.delete(ctx, first);
    await shim.kill();
    await shim.restart();
    for (const process of [first, second]) {
      await assert.rejects(shim.task.state(ctx, process), { code: "not-found" });
      await shim.task.exec(ctx, { ...process, spec });
      assert.equal((await shim.task.state(ctx, process)).status, created);
    }
    await shim.remove("c1");
  });

  roomTest("answers a deletion when the daemon has been told of it", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx } = shim;
    await shim.task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
    await shim.task.start(ctx, { id: "c1" });
    await shim.task.kill(ctx, { id: "c1", signal: 9 });
    await shim.task.wait(ctx, { id: "c1" });
    await shim.waitForEvent(({ topic }) => topic === "/tasks/exit");
    shim.eventDelayMs = 200;
    await shim.task.delete(ctx, { id: "c1" });
    const life = ["/tasks/create", "/tasks/start", "/tasks/exit c1", "/tasks/delete"];
    assert.deepEqual(shim.topics("c1"), life);
    // One that does not come is not waited for.
    await shim.task.create(ctx, { id: "c2", bundle: makeBundle(room, "c2"), options });
    shim.eventDelayMs = 4_000;
    const since = performance.now();
    await shim.task.delete(ctx, { id: "c2" });
    assert.ok(performance.now() - since < 4_000);
    shim.eventDelayMs = 0;
  });
});
