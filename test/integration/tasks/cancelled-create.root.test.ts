import assert from "node:assert/strict";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { ShimTaskRuntime } from "#core/runtime/task-runtime.ts";
import { defaultShimTimeouts } from "#core/runtime/shim-manager.ts";
import { isNotFound } from "#pkg/errors.ts";
import { LocalTasks } from "#plugins/services/tasks/local.ts";
import { pidsWithArgument } from "#shim/proc.ts";
import { until } from "#test/support/processes.ts";
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
const cleanupMs = 200;

/** A runtime whose create hangs as long as the file `stuck` is there. */
function stuckRuntime(room: Room): { readonly binary: string; readonly free: () => void } {
  const [stuck, binary] = [join(room.dir, "stuck"), join(room.dir, "runtime")];
  writeFileSync(stuck, "");
  const hang = `*" create "*) while [ -e ${stuck} ]; do sleep 0.05; done;;`;
  writeFileSync(binary, `#!/bin/sh\ncase "$*" in\n${hang}\nesac\nexec runc "$@"\n`, {
    mode: 0o755,
  });
  return { binary, free: () => rmSync(stuck) };
}

interface Canceled {
  readonly bundle: string;
  /** Resolves when the creation has failed, and was undone. */
  readonly over: Promise<void>;
}

/** By a caller in the daemon: over ttrpc nobody can leave. */
async function cancelCreate(daemon: TaskDaemon, room: Room, binary: string): Promise<Canceled> {
  const { manager } = daemon;
  await recordContainer(daemon, room, "c1", { args: shell("sleep 1000") });
  const value = toBinary(OptionsSchema, create(OptionsSchema, { binaryName: binary }));
  const caller = new AbortController();
  const ctx = daemon.ctx.withSignal(caller.signal);
  const runtime = new ShimTaskRuntime(manager);
  const creating = new LocalTasks({ containers: manager.options.containers, runtime }).create(
    ctx,
    "c1",
    {
      rootfs: rootfsMounts(room).map((mount) => ({ ...mount, target: "" })),
      io: { stdin: "", stdout: "", stderr: "", terminal: false },
      options: { typeUrl: OptionsSchema.typeName, value },
      runtimePath: "",
    },
  );
  const over = assert.rejects(creating, { code: "canceled" });
  const bundle = join(room.dir, "state", room.namespace, "c1");
  const isCalled = (): boolean => pidsWithArgument(join(bundle, "init.pid")).length > 0;
  await until("the runtime is called", isCalled);
  caller.abort();
  return { bundle, over };
}

async function assertFree(daemon: TaskDaemon, room: Room): Promise<void> {
  const { ctx, tasks } = daemon;
  assert.equal(existsSync(join("/run/containerd/runc", room.namespace, "c1")), false);
  await tasks.create(ctx, { containerId: "c1", rootfs: rootfsMounts(room) });
  await tasks.start(ctx, { containerId: "c1" });
  const exit = tasks.wait(ctx, { containerId: "c1" });
  await tasks.kill(ctx, { containerId: "c1", signal: SIGKILL });
  await exit;
  await tasks.delete(ctx, { containerId: "c1" });
}

suite("a creation whose caller has left", { concurrency: false }, () => {
  roomTest(
    "keeps its bundle until the runtime is done, and leaves nothing then",
    async (room) => {
      const timeouts = { ...defaultShimTimeouts, cleanup: cleanupMs };
      const daemon = await startTaskDaemon(room, { timeouts });
      const { binary, free } = stuckRuntime(room);
      const { bundle, over } = await cancelCreate(daemon, room, binary);
      // Longer than any clean-up may take.
      const since = performance.now();
      await until("time has passed", () => performance.now() - since > 10 * cleanupMs);
      assert.ok(existsSync(join(bundle, "config.json")));
      free();
      await over;
      assert.deepEqual(await bundleNames(room), []);
      await assertFree(daemon, room);
    },
    { needs: ["runc"] },
  );

  roomTest(
    "is left alone by a daemon that starts meanwhile",
    async (room) => {
      const daemon = await startTaskDaemon(room);
      const { binary, free } = stuckRuntime(room);
      const { bundle, over } = await cancelCreate(daemon, room, binary);
      await daemon.restart();
      await over;
      assert.ok(existsSync(join(bundle, "config.json")));
      free();
      const { ctx, tasks } = daemon;
      await tasks.delete(ctx, { containerId: "c1" }).catch((error: unknown) => {
        if (!isNotFound(error)) throw error;
      });
      await until("the bundle is gone", async () => (await bundleNames(room)).length === 0);
      await assertFree(daemon, room);
    },
    { needs: ["runc"] },
  );
});
