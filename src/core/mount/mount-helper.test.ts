import assert from "node:assert/strict";
import { test } from "node:test";
import { isHelped, mountByHelper } from "#core/mount/mount-helper.ts";
import type { RunProgram } from "#core/mount/mount-program.ts";
import { Context } from "#pkg/context.ts";

const mount = { type: "fuse3.x", source: "s", target: "", options: ["a", "b=c,d"] };

function answering(result: { failure: string; output: string }): [RunProgram, string[][]] {
  const calls: string[][] = [];
  return [async (_ctx, name, args) => (calls.push([name, ...args]), result), calls];
}

test("only types of FUSE have helpers", () => {
  const types = ["fuse.x", "fuse3.x", "fuse", "fuse3", "fuseblk", "mkfs/fuse.x", "nfs"];
  assert.deepEqual(types.filter(isHelped), ["fuse.x", "fuse3.x"]);
});

test("a helper gets source, target, options and type", async () => {
  const [run, calls] = answering({ failure: "", output: "" });
  await mountByHelper(Context.background(), run, mount, "/t");
  await mountByHelper(Context.background(), run, { ...mount, type: "fuse.a.b", options: [] }, "/t");
  assert.deepEqual(calls, [
    ["mount.fuse3", "s", "/t", "-o", "a", "-o", "b=c,d", "-t", "x"],
    ["mount.fuse", "s", "/t", "-t", "a.b"],
  ]);
});

test("a helper's failure is told with its words", async () => {
  const [run] = answering({ failure: "exit status 1", output: "no" });
  await assert.rejects(mountByHelper(Context.background(), run, mount, "/t"), {
    message: 'mount helper [mount.fuse3 [s /t -o a -o b=c,d -t x]] failed: "no": exit status 1',
  });
});
