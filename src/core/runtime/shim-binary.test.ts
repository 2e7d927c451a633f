import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findShimBinary, shimBinaryName } from "#core/runtime/shim-binary.ts";

async function directories(): Promise<AsyncDisposable & { beside: string; path: string }> {
  const dir = await mkdtemp(join(tmpdir(), "shim-binary-"));
  const beside = join(dir, "beside");
  const path = join(dir, "path");
  await mkdir(beside);
  await mkdir(path);
  return {
    beside,
    path,
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

async function program(path: string, mode = 0o755): Promise<string> {
  await writeFile(path, "");
  await chmod(path, mode);
  return path;
}

test("shimBinaryName() takes the last two parts of a runtime's name", () => {
  assert.equal(shimBinaryName("io.containerd.runsc.v1"), "containerd-shim-runsc-v1");
  assert.equal(shimBinaryName("kata.v2"), "containerd-shim-kata-v2");
  assert.equal(shimBinaryName("runc"), undefined);
  assert.equal(shimBinaryName(".runc.v2"), undefined);
});

test("findShimBinary() looks beside the daemon and then along PATH", async () => {
  await using dirs = await directories();
  const search = { daemonDir: dirs.beside, path: `relative:${dirs.path}` };
  const onPath = await program(join(dirs.path, "containerd-shim-foo-v1"));
  assert.equal(await findShimBinary("io.containerd.foo.v1", search), onPath);
  const beside = await program(join(dirs.beside, "containerd-shim-foo-v1"), 0o644);
  assert.equal(await findShimBinary("io.containerd.foo.v1", search), onPath);
  await chmod(beside, 0o755);
  assert.equal(await findShimBinary("io.containerd.foo.v1", search), beside);
});

test("findShimBinary() says what is wrong in upstream's words", async () => {
  await using dirs = await directories();
  const search = { daemonDir: dirs.beside, path: dirs.path };
  const rejects = (runtime: string, words: RegExp): Promise<void> =>
    assert.rejects(findShimBinary(runtime, search), words);
  await rejects("", /no runtime name/);
  await rejects(
    "io.containerd.foo.v1",
    /"io.containerd.foo.v1" binary not installed "containerd-shim-foo-v1": file does not exist/,
  );
  await rejects("runc", /invalid runtime name runc, correct runtime name should be/);
  await rejects("bin/shim.foo.v1", /invalid runtime name bin\/shim.foo.v1/);
  await rejects(
    `${dirs.path}/none`,
    /invalid custom binary path: stat .*\/none: no such file or directory/,
  );
  const absolute = await program(join(dirs.path, "any name"));
  assert.equal(await findShimBinary(absolute, search), absolute);
});
