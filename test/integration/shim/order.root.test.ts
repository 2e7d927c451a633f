import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { suite } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { MetricsSchema as MetricsV1 } from "#api/cgroups/v1/metrics_pb.ts";
import { MetricsSchema as MetricsV2 } from "#api/cgroups/v2/metrics_pb.ts";
import { openFilesOf } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import { execSpec, makeBundle, runcOptions } from "./bundle.ts";
import { OutputFifo } from "./fifo.ts";
import { holdsOnly, SupervisorFixture } from "./supervisor.ts";

const options = runcOptions({ binaryName: "runc" });

suite("order of what is told", () => {
  roomTest("the first process's exit comes after those of its execs", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    await task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
    await task.start(ctx, { id: "c1" });
    for (const execId of ["e1", "e2", "e3"]) {
      await task.exec(ctx, { id: "c1", execId, spec: execSpec(["sleep", "1000"]) });
      await task.start(ctx, { id: "c1", execId });
    }
    await task.kill(ctx, { id: "c1", signal: 9 });
    assert.equal((await task.wait(ctx, { id: "c1" })).exitStatus, 137);
    await task.delete(ctx, { id: "c1" });
    await shim.waitForEvent((event) => event.topic === "/tasks/delete");
    const exits = shim.events.filter((event) => event.topic === "/tasks/exit");
    assert.deepEqual(exits.map((event) => event.id).toSorted(), ["c1", "e1", "e2", "e3"]);
    assert.equal(exits.at(-1)?.id, "c1");
    assert.deepEqual(new Set(exits.map((event) => event.exitStatus)), new Set([137]));
  });

  roomTest("what shares the host's processes is killed before the exit is told", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const stdout = new OutputFifo(room, "out");
    const args = ["sh", "-c", "sleep 1000 & echo $!; read x </proc/self/fd/0; exit 4"];
    const bundle = makeBundle(room, "c1", { args, pidNamespace: "host" });
    await task.create(ctx, { id: "c1", bundle, options, stdout: stdout.path });
    await task.start(ctx, { id: "c1" });
    const left = Number(await stdout.until((text) => text.endsWith("\n")));
    assert.equal((await task.wait(ctx, { id: "c1" })).exitStatus, 4);
    await shim.waitForEvent((event) => event.topic === "/tasks/exit");
    assert.throws(() => {
      const stat = readFileSync(`/proc/${left}/stat`, "utf8");
      assert.match(stat, /\) Z /, "only a zombie may be left for a moment");
      throw new Error("a zombie");
    });
    await task.delete(ctx, { id: "c1" });
  });

  roomTest("an exec that ends at once has its exit after its start, fifty times", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    await task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
    await task.start(ctx, { id: "c1" });
    const before = await openFilesOf(shim.pid);
    const one = async (n: number): Promise<void> => {
      const execId = `e${n}`;
      await task.exec(ctx, { id: "c1", execId, spec: execSpec(["sh", "-c", `exit ${n}`]) });
      await task.start(ctx, { id: "c1", execId });
      assert.equal((await task.wait(ctx, { id: "c1", execId })).exitStatus, n);
      await task.delete(ctx, { id: "c1", execId });
    };
    for (let n = 0; n < 50; n += 5) await Promise.all([0, 1, 2, 3, 4].map((i) => one(n + i)));
    const exits = () => shim.events.filter((event) => event.topic === "/tasks/exit").length;
    await shim.waitForEvent(() => exits() === 50);
    for (let n = 0; n < 50; n++) {
      const told = shim.events.filter((event) => event.id === `e${n}`).map((event) => event.topic);
      assert.deepEqual(told, ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]);
    }
    await holdsOnly(shim.pid, before);
    assert.deepEqual(zombiesOf(shim.pid), []);
    await shim.remove("c1");
  });

  roomTest("ten containers at once keep their outputs and codes apart", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    // The first event opens the connection on which events go.
    await task.create(ctx, { id: "first", bundle: makeBundle(room, "first"), options });
    await shim.remove("first");
    await shim.waitForEvent((event) => event.topic === "/tasks/delete");
    const before = await openFilesOf(shim.pid);
    await Promise.all(
      Array.from({ length: 10 }, async (_, n) => {
        const id = `c${n}`;
        const stdout = new OutputFifo(room, `out${n}`);
        const bundle = makeBundle(room, id, { args: ["sh", "-c", `echo ${id}; exit ${n}`] });
        await task.create(ctx, { id, bundle, stdout: stdout.path });
        const waiting = task.wait(ctx, { id });
        await task.start(ctx, { id });
        assert.equal((await waiting).exitStatus, n);
        await task.delete(ctx, { id });
        assert.equal(await stdout.toEnd(), `${id}\n`);
      }),
    );
    await shim.waitForEvent(
      () => shim.events.filter((e) => e.topic === "/tasks/delete").length === 11,
    );
    for (let n = 0; n < 10; n++) {
      assert.deepEqual(shim.topics(`c${n}`), [
        "/tasks/create",
        "/tasks/start",
        `/tasks/exit c${n}`,
        "/tasks/delete",
      ]);
    }
    await holdsOnly(shim.pid, before);
    assert.deepEqual(zombiesOf(shim.pid), []);
  });

  roomTest(
    "a container deleted before its start has told its exit",
    async (room) => {
      const shim = await SupervisorFixture.start(room);
      const { ctx, task } = shim;
      for (const binaryName of ["runc", "crun"]) {
        const id = `c-${binaryName}`;
        const bundle = makeBundle(room, id);
        await task.create(ctx, { id, bundle, options: runcOptions({ binaryName }) });
        assert.equal((await task.delete(ctx, { id })).exitStatus, 137);
        await shim.waitForEvent((e) => e.containerId === id && e.topic === "/tasks/delete");
        assert.deepEqual(shim.topics(id), ["/tasks/create", `/tasks/exit ${id}`, "/tasks/delete"]);
      }
    },
    { needs: ["crun"] },
  );

  roomTest("events wait, in order, for a daemon that restarts", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    await task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
    await shim.waitForEvent((event) => event.topic === "/tasks/create");
    await shim.stopEvents();
    await task.start(ctx, { id: "c1" });
    await task.kill(ctx, { id: "c1", signal: 9 });
    await task.wait(ctx, { id: "c1" });
    await task.delete(ctx, { id: "c1" });
    await shim.startEvents();
    await shim.waitForEvent((event) => event.topic === "/tasks/delete");
    assert.deepEqual(shim.topics("c1"), [
      "/tasks/create",
      "/tasks/start",
      "/tasks/exit c1",
      "/tasks/delete",
    ]);
  });

  roomTest("pause and resume are told, and an exec is as paused as its container", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    await task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
    await task.start(ctx, { id: "c1" });
    await task.exec(ctx, { id: "c1", execId: "e1", spec: execSpec(["sleep", "1000"]) });
    const { pid } = await task.start(ctx, { id: "c1", execId: "e1" });
    const { processes } = await task.pids(ctx, { id: "c1" });
    assert.equal(
      processes.find((process) => process.pid === pid)?.info?.typeUrl,
      "containerd.runc.v1.ProcessDetails",
    );
    const { stats } = await task.stats(ctx, { id: "c1" });
    assert.ok(stats && /^io\.containerd\.cgroups\.v[12]\.Metrics$/.test(stats.typeUrl));
    const schema = stats.typeUrl.includes("v1") ? MetricsV1 : MetricsV2;
    const metrics = fromBinary(schema, stats.value);
    assert.equal(metrics.pids?.current, 2n);
    assert.ok(Number(metrics.memory?.usage) > 0 || typeof metrics.memory?.usage === "object");
    await task.pause(ctx, { id: "c1" });
    assert.equal((await task.state(ctx, { id: "c1" })).status, 4);
    assert.equal((await task.state(ctx, { id: "c1", execId: "e1" })).status, 4);
    await assert.rejects(
      task.pause(ctx, { id: "c1" }),
      /^CodedError: cannot pause a paused container$/,
    );
    await task.resume(ctx, { id: "c1" });
    assert.equal((await task.state(ctx, { id: "c1", execId: "e1" })).status, 2);
    await shim.remove("c1");
    await shim.waitForEvent((event) => event.topic === "/tasks/delete");
    assert.ok(shim.topics("c1").includes("/tasks/paused"));
    assert.ok(shim.topics("c1").includes("/tasks/resumed"));
  });
});

function zombiesOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      const stat = readStat(name);
      const [state, ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return state === "Z" && Number(ppid) === parent;
    })
    .map(Number);
}

function readStat(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return ""; // -- gone meanwhile
  }
}
