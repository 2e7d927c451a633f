import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { MountHandler } from "#core/mount/manager.ts";
import { LocalMountManager } from "#core/mount/manager/local-manager.ts";
import { Mounter } from "#core/mount/mounter.ts";
import { Context } from "#pkg/context.ts";
import { linux } from "#pkg/sys/linux.ts";

const handler: MountHandler = {
  async mount(_ctx, mount, mountPoint) {
    await mkdir(mountPoint);
    return { ...mount, mountPoint, mountedAt: 0n, data: {} };
  },
  unmount: (_ctx, mountPoint) => rmdir(mountPoint),
  isMounted: async () => true,
};
const mounts = [{ type: "slow", source: "", target: "", options: [] }];
const ctx = Context.background().withNamespace("ns");

async function open(targets: string, slow: MountHandler): Promise<LocalMountManager> {
  return LocalMountManager.open({
    ctx,
    targets,
    mounter: new Mounter({ sys: linux, tempDir: targets }),
    handlers: new Map([["slow", slow]]),
    transforms: new Map(),
  });
}

test("what a caller holds is not collected while its daemon runs", async (t) => {
  const targets = await mkdtemp(join(tmpdir(), "activations-"));
  t.after(() => rm(targets, { recursive: true, force: true }));
  const manager = await open(targets, handler);
  await manager.activate(ctx, "held", mounts, { held: true });
  await manager.activate(ctx, "free", mounts);
  assert.deepEqual([...manager.start(ctx).active()], [{ namespace: "ns", key: "held" }]);
  const next = await open(targets, handler);
  assert.equal((await next.list(ctx)).length, 2);
  assert.deepEqual([...next.start(ctx).active()], []);
});

test("a collection leaves alone what is being deactivated", async (t) => {
  const targets = await mkdtemp(join(tmpdir(), "activations-"));
  t.after(() => rm(targets, { recursive: true, force: true }));
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  let unmounts = 0;
  const manager = await open(targets, {
    ...handler,
    async unmount() {
      if (++unmounts > 1) return;
      begun.resolve();
      await end.promise;
    },
  });
  await manager.activate(ctx, "m", mounts);
  const deactivated = manager.deactivate(ctx, "m");
  await begun.promise;
  await manager.start(ctx).finish(ctx);
  end.resolve();
  await deactivated;
  assert.deepEqual([unmounts, await readdir(targets)], [1, []]);
});
