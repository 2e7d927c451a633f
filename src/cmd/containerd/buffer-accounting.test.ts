import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

const file = join(import.meta.dirname, "buffer-accounting.ts");

// How often V8 collects differs from run to run; that it does as told shows in the benches.
test("no flag is set that this V8 would complain of", () => {
  const program = `(await import(${JSON.stringify(file)})).countBuffersWithHeap();`;
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", program];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: "", stderr: "" });
});
