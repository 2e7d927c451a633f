import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { product, readRevision } from "#pkg/version.ts";

const id = "0123456789abcdef0123456789abcdef01234567";

test("the version is that of package.json", async () => {
  const text = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  const { version, name } = JSON.parse(text) as { version: string; name: string }; // -- npm's own
  assert.deepEqual([product.version, product.package], [`v${version}`, name]);
});

test("readRevision() follows HEAD to a commit, or says nothing", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/revision-`);
  const git = `${dir.path}/.git`;
  assert.equal(await readRevision(dir.path), "");
  await mkdir(`${git}/refs/heads`, { recursive: true });
  await writeFile(`${git}/HEAD`, `${id}\n`);
  assert.equal(await readRevision(dir.path), id);
  await writeFile(`${git}/HEAD`, "ref: refs/heads/main\n");
  assert.equal(await readRevision(dir.path), "");
  await writeFile(`${git}/packed-refs`, `# pack-refs\n${id} refs/heads/main\n`);
  assert.equal(await readRevision(dir.path), id);
  await writeFile(`${git}/refs/heads/main`, `${id.replace("0", "f")}\n`);
  assert.equal(await readRevision(dir.path), id.replace("0", "f"));
  await writeFile(`${git}/HEAD`, "not a commit\n");
  assert.equal(await readRevision(dir.path), "");
});

test("readRevision() finds the commit of a further work tree", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/revision-`);
  const tree = join(dir.path, "tree");
  const own = join(dir.path, "main/.git/worktrees/tree");
  await mkdir(tree);
  await mkdir(own, { recursive: true });
  await writeFile(join(tree, ".git"), `gitdir: ${own}\n`);
  await writeFile(join(own, "HEAD"), "ref: refs/heads/branch\n");
  await writeFile(join(own, "commondir"), "../..\n");
  assert.equal(await readRevision(tree), "");
  await writeFile(join(dir.path, "main/.git/packed-refs"), `${id} refs/heads/branch\n`);
  assert.equal(await readRevision(tree), id);
  await writeFile(join(tree, ".git"), "gitdir: ../main/.git/worktrees/tree\n");
  assert.equal(await readRevision(tree), id);
});
