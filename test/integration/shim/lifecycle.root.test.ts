import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { suite } from "node:test";
import { roomTest } from "#test/support/room.ts";
import { execSpec, makeBundle, runcOptions } from "./bundle.ts";
import { OutputFifo } from "./fifo.ts";
import { SupervisorFixture } from "./supervisor.ts";

for (const runtime of ["runc", "crun"] as const) {
  suite(`life of a task on ${runtime}`, () => {
    const options = runcOptions({ binaryName: runtime });
    roomTest(
      "create, start, wait and delete, with output and the exit code",
      async (room) => {
        const shim = await SupervisorFixture.start(room);
        const { ctx, task } = shim;
        const stdout = new OutputFifo(room, "out");
        const stderr = new OutputFifo(room, "err");
        const bundle = makeBundle(room, "c1", {
          args: ["sh", "-c", "echo hello; echo oops >&2; exit 42"],
        });
        const io = { stdout: stdout.path, stderr: stderr.path };
        const created = await task.create(ctx, { id: "c1", bundle, options, ...io });
        assert.ok(created.pid > 0);
        assert.equal((await task.state(ctx, { id: "c1" })).status, 1);
        const waiting = task.wait(ctx, { id: "c1" });
        assert.equal((await task.start(ctx, { id: "c1" })).pid, created.pid);
        assert.equal((await waiting).exitStatus, 42);
        const state = await task.state(ctx, { id: "c1" });
        assert.equal(state.status, 3);
        assert.equal(state.exitStatus, 42);
        const deleted = await task.delete(ctx, { id: "c1" });
        assert.equal(deleted.exitStatus, 42);
        assert.equal(deleted.pid, created.pid);
        assert.equal(await stdout.toEnd(), "hello\n");
        assert.equal(await stderr.toEnd(), "oops\n");
        await shim.waitForEvent((event) => event.topic === "/tasks/delete");
        assert.deepEqual(shim.topics("c1"), [
          "/tasks/create",
          "/tasks/start",
          "/tasks/exit c1",
          "/tasks/delete",
        ]);
        const runtimeRoot = `/run/containerd/runc/${room.namespace}`;
        await task.shutdown(ctx, { id: "c1" });
        await shim.ended;
        assert.equal(existsSync(runtimeRoot), false);
        assert.equal(existsSync(shim.socket), false);
      },
      { needs: [runtime] },
    );

    roomTest(
      "exec gives its own exit code, output and events",
      async (room) => {
        const shim = await SupervisorFixture.start(room);
        const { ctx, task } = shim;
        const bundle = makeBundle(room, "c1");
        await task.create(ctx, { id: "c1", bundle, options });
        await task.start(ctx, { id: "c1" });
        const stdout = new OutputFifo(room, "out");
        const spec = execSpec(["sh", "-c", "echo from exec; exit 7"]);
        await task.exec(ctx, { id: "c1", execId: "e1", spec, stdout: stdout.path });
        const { pid } = await task.start(ctx, { id: "c1", execId: "e1" });
        assert.ok(pid > 0);
        assert.equal((await task.wait(ctx, { id: "c1", execId: "e1" })).exitStatus, 7);
        assert.equal((await task.delete(ctx, { id: "c1", execId: "e1" })).exitStatus, 7);
        assert.equal(await stdout.toEnd(), "from exec\n");
        await shim.remove("c1");
        await shim.waitForEvent((event) => event.topic === "/tasks/delete");
        assert.deepEqual(shim.topics("c1"), [
          "/tasks/create",
          "/tasks/start",
          "/tasks/exec-added e1",
          "/tasks/exec-started e1",
          "/tasks/exit e1",
          "/tasks/exit c1",
          "/tasks/delete",
        ]);
      },
      { needs: [runtime] },
    );
  });
}
