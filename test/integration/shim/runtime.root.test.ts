import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { suite } from "node:test";
import { create } from "@bufbuild/protobuf";
import { MountSchema } from "#api/types/mount_pb.ts";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";
import { makeBundle, makeRootfs, runcOptions } from "./bundle.ts";
import { OutputFifo } from "./fifo.ts";
import { SupervisorFixture } from "./supervisor.ts";

function runtimeOf(bundle: string): string {
  return basename(readFileSync(join(bundle, "runtime"), "utf8"));
}

function versionIn(bundle: string): string {
  const spec = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as object;
  return "ociVersion" in spec ? String(spec.ociVersion) : "";
}

const logOf = (shim: SupervisorFixture): string => shim.stderr.join("\n");

suite("which runtime, on what", () => {
  roomTest(
    "crun by default, with a version lowered to what it takes",
    async (room) => {
      const shim = await SupervisorFixture.start(room);
      const { ctx, task } = shim;
      const bundle = makeBundle(room, "c1", { ociVersion: "1.3.0" });
      await task.create(ctx, { id: "c1", bundle });
      assert.equal(runtimeOf(bundle), "crun");
      assert.notEqual(versionIn(bundle), "1.3.0");
      await until("the choice is logged", () => /default OCI runtime.*crun/.test(logOf(shim)));
      await shim.remove("c1");
    },
    { needs: ["crun"] },
  );

  roomTest(
    "runc for what crun does not know yet",
    async (room) => {
      const shim = await SupervisorFixture.start(room);
      const { ctx, task } = shim;
      const bundle = makeBundle(room, "c1", {
        ociVersion: "1.3.0",
        process: { ioPriority: { class: "IOPRIO_CLASS_BE", priority: 4 } },
      });
      await task.create(ctx, { id: "c1", bundle });
      assert.equal(runtimeOf(bundle), "runc");
      assert.equal(versionIn(bundle), "1.3.0");
      const why = /default OCI runtime.*runc.*the specification needs version 1\.2\.0/;
      await until("the choice is logged with its reason", () => why.test(logOf(shim)));
      await shim.remove("c1");
    },
    { needs: ["crun", "runc"] },
  );

  roomTest("options are kept in the bundle as Go writes them", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const bundle = makeBundle(room, "c1");
    const root = join(room.dir, "runc-root");
    const options = runcOptions({ binaryName: "runc", root });
    await task.create(ctx, { id: "c1", bundle, options });
    const text = readFileSync(join(bundle, "options.json"), "utf8");
    assert.deepEqual(JSON.parse(text), { binary_name: "runc", root });
    assert.ok(readFileSync(join(root, room.namespace, "c1/state.json"), "utf8"));
    await shim.remove("c1");
  });

  roomTest(
    "the root is mounted for the task and unmounted with it",
    async (room) => {
      const shim = await SupervisorFixture.start(room);
      const { ctx, task } = shim;
      const lower = makeRootfs(room, join(room.dir, "lower"));
      for (const name of ["upper", "work"]) mkdirSync(join(room.dir, name));
      const stdout = new OutputFifo(room, "out");
      const bundle = makeBundle(room, "c1", { args: ["sh", "-c", "echo x >/new; cat /new"] });
      const overlay = create(MountSchema, {
        type: "overlay",
        source: "overlay",
        options: [`lowerdir=${lower}`, `upperdir=${room.dir}/upper`, `workdir=${room.dir}/work`],
      });
      const mounted = (): boolean =>
        readFileSync("/proc/self/mountinfo", "utf8").includes(`${bundle}/rootfs`);
      const request = { id: "c1", bundle, rootfs: [overlay], stdout: stdout.path };
      await task.create(ctx, request);
      assert.equal(mounted(), true);
      await task.start(ctx, { id: "c1" });
      assert.equal((await task.wait(ctx, { id: "c1" })).exitStatus, 0);
      await task.delete(ctx, { id: "c1" });
      assert.equal(mounted(), false);
      assert.equal(await stdout.toEnd(), "x\n");
      assert.equal(readFileSync(join(room.dir, "upper/new"), "utf8"), "x\n");

      writeFileSync(join(bundle, "config.json"), '{"ociVersion":"1.0.2","linux":{}}');
      await assert.rejects(task.create(ctx, request), /^CodedError: OCI runtime create failed: /);
      assert.equal(mounted(), false);
    },
    { needs: ["overlayfs"] },
  );
});
