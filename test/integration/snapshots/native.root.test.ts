import { tmpdir } from "node:os";
import { Mounter } from "#core/mount/mounter.ts";
import { snapshotterSuite } from "#core/snapshots/suite.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { linux } from "#pkg/sys/linux.ts";
import { NativeSnapshotter } from "#plugins/snapshotter/native/native-snapshotter.ts";

snapshotterSuite(
  "native",
  async (ctx, root) => {
    await using stack = new AsyncDisposableStack();
    const workers = stack.use(new TreeWorkers());
    const snapshotter = stack.use(await NativeSnapshotter.open(ctx, { root, workers }));
    const owned = stack.move();
    return { snapshotter, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  },
  {
    mounter: new Mounter({ sys: linux, tempDir: tmpdir() }),
    renamesLowerDirectories: true,
    skip: process.getuid?.() === 0 ? undefined : "needs root",
  },
);
