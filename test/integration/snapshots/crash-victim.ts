import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { parseFailpoints } from "#pkg/failpoint.ts";
import { NativeSnapshotter } from "#plugins/snapshotter/native/native-snapshotter.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";

// The process that crash.root.test.ts kills at a failpoint: `crash-victim.ts SNAPSHOTTER ROOT FAILPOINT`.

const [name = "", root = "", failpoint = ""] = process.argv.slice(2);
const Snapshotter = name === "native" ? NativeSnapshotter : OverlaySnapshotter;
const ctx = Context.background();
await using workers = new TreeWorkers();
await using snapshotter = await Snapshotter.open(ctx, {
  root,
  workers,
  failpoints: parseFailpoints(failpoint),
});
const [mount] = await snapshotter.prepare(ctx, "one", "");
await writeFile(join(mount?.source ?? "", "file"), "content");
await snapshotter.commit(ctx, "base", "one");
await snapshotter.prepare(ctx, "two", "base");
await snapshotter.remove(ctx, "two");
