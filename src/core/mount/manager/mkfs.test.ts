import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { AllowedRoots } from "#core/mount/manager/allowed-roots.ts";
import { mkfs } from "#core/mount/manager/mkfs.ts";
import { Context } from "#pkg/context.ts";
import { linux } from "#pkg/sys/linux.ts";

test("a file that two activations want is formatted once", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "mkfs-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  let runs = 0;
  const make = mkfs(new AllowedRoots(linux, [dir]), async (_ctx, _name, args) => {
    runs++;
    await nextTurn();
    await writeFile(args.at(-1) ?? "", "formatted");
    return { failure: "", output: "" };
  });
  const options = ["X-containerd.mkfs.size=1M", "loop"];
  const mount = { type: "ext4", source: join(dir, "image"), target: "", options };
  const ctx = Context.background();
  const made = await Promise.all([1, 2, 3].map(() => make(ctx, mount, [])));
  assert.deepEqual(made, Array(3).fill({ ...mount, options: ["loop"] }));
  assert.deepEqual([runs, await readdir(dir)], [1, ["image"]]);
  assert.match(await readFile(mount.source, "utf8"), /^formatted/);
});
