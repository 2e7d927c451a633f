import { tmpdir } from "node:os";
import { Mounter } from "#core/mount/mounter.ts";
import { snapshotterSuite } from "#core/snapshots/suite.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { linux } from "#pkg/sys/linux.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";

const skip = process.getuid?.() === 0 ? undefined : "needs root";
const mounter = new Mounter({ sys: linux, tempDir: tmpdir() });

for (const asyncRemove of [false, true]) {
  snapshotterSuite(
    asyncRemove ? "overlayfs-async" : "overlayfs",
    async (ctx, root) => {
      await using stack = new AsyncDisposableStack();
      const workers = stack.use(new TreeWorkers());
      const snapshotter = stack.use(
        await OverlaySnapshotter.open(ctx, {
          root,
          workers,
          asyncRemove,
          mountOptions: ["index=off"],
        }),
      );
      const owned = stack.move();
      return { snapshotter, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
    { mounter, renamesLowerDirectories: false, skip },
  );
}
