import assert from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { create } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { CodedError, type ErrorCode } from "#pkg/errors.ts";
import { roomTest } from "#test/support/room.ts";
import { execSpec, makeBundle, runcOptions } from "./bundle.ts";
import { SupervisorFixture } from "./supervisor.ts";

function fails(code: ErrorCode, message: RegExp | string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof CodedError);
    assert.equal(error.code, code, error.message);
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    return true;
  };
}

suite("what a client is told when it cannot be", () => {
  for (const binaryName of ["runc", "crun"] as const) {
    roomTest(
      `the words of ${binaryName} about a command that is not there`,
      async (room) => {
        const shim = await SupervisorFixture.start(room);
        const { ctx, task } = shim;
        const bundle = makeBundle(room, "c1", { args: ["/no/such/program"] });
        const options = runcOptions({ binaryName });
        await assert.rejects(
          task.create(ctx, { id: "c1", bundle, options }),
          fails(
            "unknown",
            /^OCI runtime create failed: .*\/no\/such\/program.*no such file or directory/i,
          ),
        );
        assert.deepEqual(shim.events, []);
        assert.equal(existsSync(join(bundle, "task.json")), false);
        await assert.rejects(
          task.state(ctx, { id: "c1" }),
          fails("not-found", "container not created: not found"),
        );
      },
      { needs: [binaryName] },
    );

    roomTest(
      `an exec of nothing on ${binaryName} fails and can be deleted`,
      async (room) => {
        const shim = await SupervisorFixture.start(room);
        const { ctx, task } = shim;
        const options = runcOptions({ binaryName });
        const bundle = makeBundle(room, "c1");
        await task.create(ctx, { id: "c1", bundle, options });
        await task.start(ctx, { id: "c1" });
        await task.exec(ctx, { id: "c1", execId: "e1", spec: execSpec(["/no/such"]) });
        const waiting = task.wait(ctx, { id: "c1", execId: "e1" });
        await assert.rejects(
          task.start(ctx, { id: "c1", execId: "e1" }),
          fails("unknown", /^OCI runtime exec failed: .*\/no\/such/),
        );
        await waiting;
        await task.delete(ctx, { id: "c1", execId: "e1" });
        await shim.remove("c1");
        assert.deepEqual(
          readdirSync(bundle).filter((name) => name.startsWith(".")),
          [],
        );
      },
      { needs: [binaryName] },
    );
  }

  roomTest("a runtime that is not on PATH", async (room) => {
    const { ctx, task } = await SupervisorFixture.start(room);
    const bundle = makeBundle(room, "c1");
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle, options: runcOptions({ binaryName: "nosuchrunc" }) }),
      fails(
        "unknown",
        `OCI runtime create failed: unable to retrieve OCI runtime error (open ${bundle}/log.json: ` +
          'no such file or directory): exec: "nosuchrunc": executable file not found in $PATH',
      ),
    );
  });

  roomTest("the states that refuse", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const bundle = makeBundle(room, "c1");
    await task.create(ctx, { id: "c1", bundle });
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle }),
      fails("already-exists", /task c1/),
    );
    await assert.rejects(
      task.resume(ctx, { id: "c1" }),
      fails("unknown", "cannot resume task in created state"),
    );
    await task.start(ctx, { id: "c1" });
    await assert.rejects(
      task.start(ctx, { id: "c1" }),
      fails("unknown", "cannot start a running process"),
    );
    await assert.rejects(
      task.delete(ctx, { id: "c1" }),
      fails("unknown", "cannot delete a running process"),
    );
    const spec = execSpec(["sleep", "1000"]);
    await task.exec(ctx, { id: "c1", execId: "e1", spec });
    await assert.rejects(
      task.exec(ctx, { id: "c1", execId: "e1", spec }),
      fails("already-exists", "id e1: already exists"),
    );
    const unstarted = { id: "c1", execId: "e1", signal: 9 };
    await assert.rejects(
      task.kill(ctx, unstarted),
      fails("failed-precondition", "process not created: failed precondition"),
    );
    await assert.rejects(
      task.state(ctx, { id: "c1", execId: "x" }),
      fails("not-found", "process does not exist x: not found"),
    );
    await task.kill(ctx, { id: "c1", signal: 9 });
    await task.wait(ctx, { id: "c1" });
    await assert.rejects(
      task.kill(ctx, { id: "c1", signal: 9 }),
      fails("not-found", "process already finished: not found"),
    );
    await assert.rejects(
      task.start(ctx, { id: "c1", execId: "e1" }),
      fails("failed-precondition", "container c1 init process is not running: failed precondition"),
    );
    await assert.rejects(
      task.exec(ctx, { id: "c1", execId: "e2", spec }),
      fails("unknown", "cannot exec in a stopped state"),
    );
    await task.delete(ctx, { id: "c1" });
    await assert.rejects(
      task.delete(ctx, { id: "c1" }),
      fails("not-found", "container not created: not found"),
    );
  });

  roomTest("requests that make no sense", async (room) => {
    const { ctx, task } = await SupervisorFixture.start(room);
    const bundle = makeBundle(room, "c1");
    await assert.rejects(
      task.create(ctx, { id: "../c1", bundle }),
      fails("invalid-argument", /identifier/),
    );
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle: "state/c1" }),
      fails("invalid-argument", /absolute/),
    );
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle: `${bundle}x` }),
      fails("invalid-argument", /not a directory/),
    );
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle, stdout: "ftp://x/y" }),
      fails("unknown", "failed to create init process I/O: unknown STDIO scheme ftp"),
    );
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle, stdout: `${bundle}/nofifo` }),
      fails("unknown", /nofifo/),
    );
    const bad = create(AnySchema, {
      typeUrl: "containerd.runc.v1.Options",
      value: Buffer.from([0x3a, 0xff]),
    });
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle, options: bad }),
      fails("invalid-argument", /runtime options/),
    );
    await assert.rejects(task.checkpoint(ctx, { id: "c1" }), fails("not-implemented", /./));
    writeFileSync(join(bundle, "config.json"), "{");
    await assert.rejects(
      task.create(ctx, { id: "c1", bundle }),
      fails("invalid-argument", /config.json/),
    );
  });
});
