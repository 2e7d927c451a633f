import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { MountHandler } from "#core/mount/manager.ts";
import { LocalMountManager } from "#core/mount/manager/local-manager.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { Context } from "#pkg/context.ts";
import { linux } from "#pkg/sys/linux.ts";

test("a collection leaves alone what is being deactivated", async (t) => {
  const targets = await mkdtemp(join(tmpdir(), "activations-"));
  t.after(() => rm(targets, { recursive: true, force: true }));
  const ctx = Context.background().withNamespace("ns");
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  let unmounts = 0;
  const slow: MountHandler = {
    async mount(_ctx, mount, mountPoint) {
      await mkdir(mountPoint);
      return { ...mount, mountPoint, mountedAt: 0n, data: {} };
    },
    async unmount() {
      if (++unmounts > 1) return;
      begun.resolve();
      await end.promise;
    },
  };
  const manager = await LocalMountManager.open({
    ctx,
    targets,
    mounter: new Mounter({ sys: linux, tempDir: targets }),
    handlers: new Map([["slow", slow]]),
    transforms: new Map(),
  });
  await manager.activate(ctx, "m", [{ type: "slow", source: "", target: "", options: [] }]);
  const deactivated = manager.deactivate(ctx, "m");
  await begun.promise;
  await manager.start(ctx).finish(ctx);
  end.resolve();
  await deactivated;
  assert.deepEqual([unmounts, await readdir(targets)], [1, []]);
});
