import assert from "node:assert/strict";
import { chmod, mkdir, mkdtempDisposable, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { test } from "node:test";
import { makeTopLevelDirectories } from "#cmd/containerd/directories.ts";
import { assertNotForeignRoot } from "#cmd/containerd/foreign-root.ts";

const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

// CVE-2021-41103 and CVE-2024-25621: folders that a local user could walk through.
test("root and temp are for the daemon alone, state may only be passed through", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/dirs-`);
  const at = (name: string): string => `${dir.path}/${name}`;
  const dirs = { root: at("a/root"), state: at("b/state"), temp: at("c/temp") };
  await makeTopLevelDirectories(dirs);
  const umask = process.umask();
  assert.deepEqual(
    [await mode(dirs.root), await mode(dirs.state), await mode(dirs.temp)],
    [0o700, 0o711 & ~umask, 0o700],
  );
});

test("a root that an older daemon left wider is narrowed", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/dirs-`);
  const root = `${dir.path}/root`;
  await mkdir(root);
  await chmod(root, 0o711);
  await makeTopLevelDirectories({ root, state: `${dir.path}/state`, temp: "" });
  assert.equal(await mode(root), 0o700);
});

test("root and state must be given, and be two", async () => {
  const refused = (root: string, state: string, message: string): Promise<void> =>
    assert.rejects(makeTopLevelDirectories({ root, state, temp: "" }), { message });
  await refused("", "/s", "root must be specified");
  await refused("/r", "", "state must be specified");
  await refused("/r", "/r", "root and state must be different paths");
});

const bolt = "io.containerd.metadata.v1.bolt";
const overlay = "io.containerd.snapshotter.v1.overlayfs";

async function verdict(...files: readonly string[]): Promise<string> {
  await using dir = await mkdtempDisposable(`${tmpdir()}/foreign-`);
  for (const file of files) {
    await mkdir(dirname(`${dir.path}/${file}`), { recursive: true });
    await writeFile(`${dir.path}/${file}`, "");
  }
  try {
    await assertNotForeignRoot(dir.path);
    return "ours";
  } catch (error) {
    return error instanceof Error ? error.message.replaceAll(dir.path, "ROOT") : "";
  }
}

test("a root that Go's containerd has used and this one has not is refused", async () => {
  const refusal = (file: string): string =>
    `root ROOT belongs to Go's containerd (it holds ROOT/${file}) and is left untouched; ` +
    "start with another --root: failed precondition";
  assert.equal(await verdict(`${bolt}/meta.db`), refusal(`${bolt}/meta.db`));
  assert.equal(await verdict(`${overlay}/metadata.db`), refusal(`${overlay}/metadata.db`));
  assert.equal(await verdict("io.containerd.content.v1.content/metadata.db"), "ours");
  assert.equal(await verdict(), "ours");
  assert.equal(await verdict(`${bolt}/meta.db`, `${bolt}/meta.sqlite`), "ours");
  await assertNotForeignRoot("/no/such/root");
});
