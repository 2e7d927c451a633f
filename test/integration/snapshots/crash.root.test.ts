import assert from "node:assert/strict";
import { once } from "node:events";
import { fork } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { Mounter } from "#core/mount/mounter.ts";
import { TreeWorkers } from "#pkg/archive/tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { isNotFound } from "#pkg/errors.ts";
import { silentLogger } from "#pkg/log.ts";
import { linux } from "#pkg/sys/linux.ts";
import { NativeSnapshotter } from "#plugins/snapshotter/native/native-snapshotter.ts";
import { OverlaySnapshotter } from "#plugins/snapshotter/overlayfs/overlay-snapshotter.ts";

const ctx = Context.background();
const skip = process.getuid?.() === 0 ? false : "needs root";
const mounter = new Mounter({ sys: linux, tempDir: tmpdir() });

const snapshotters = { overlayfs: OverlaySnapshotter, native: NativeSnapshotter };
type Name = keyof typeof snapshotters;

/** Runs the steps of `crash-victim.ts` in a process that dies at the named place. */
async function dieAt(name: Name, root: string, failpoint: string): Promise<void> {
  const child = fork(new URL("./crash-victim.ts", import.meta.url), [name, root, failpoint]);
  assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
}

/** What is recorded; of what is not committed also the files. */
async function contents(name: Name, root: string): Promise<string[]> {
  await using workers = new TreeWorkers();
  await using snapshotter = await snapshotters[name].open(ctx, { root, workers });
  const infos = await Array.fromAsync(snapshotter.list(ctx));
  return Promise.all(
    infos.map(async (info) => {
      const what = `${info.kind} ${info.name}`;
      if (info.kind === "committed") return what;
      const mounts = await snapshotter.mounts(ctx, info.name);
      const files = await mounter.withTempMount(ctx, mounts, async (at) => {
        const found = fs.readdirSync(at).map((file) => [file, readText(path.join(at, file))]);
        return found.map((pair) => pair.join("="));
      });
      return [what, ...files].join(" ");
    }),
  );
}

const readText = (file: string): string => fs.readFileSync(file, "utf8");

function directories(root: string): string[] {
  return fs.readdirSync(path.join(root, "snapshots")).sort();
}

for (const name of ["overlayfs", "native"] as const) {
  describe(`the ${name} snapshotter killed`, { skip }, () => {
    // The victim prepares `one`, writes a file, commits it as `base`, prepares `two` on it and
    // removes it again.
    const cases: readonly (readonly [
      failpoint: string,
      left: readonly string[],
      ids: readonly string[],
    ])[] = [
      [`${name}.directory-made=kill`, [], []],
      [`${name}.directory-made=kill:2`, ["committed base"], ["1"]],
      [`${name}.commit-synced=kill`, ["active one file=content"], ["1"]],
      [`${name}.record-removed=kill`, ["committed base"], ["1"]],
      ["database.before-commit=kill", [], []],
      ["database.after-commit=kill:2", ["committed base"], ["1"]],
    ];
    for (const [failpoint, left, ids] of cases) {
      test(`at ${failpoint} leaves what was acknowledged and no more`, async () => {
        using dir = fs.mkdtempDisposableSync(path.join(tmpdir(), "snapshot-crash-"));
        await dieAt(name, dir.path, failpoint);
        assert.deepEqual(await contents(name, dir.path), left);
        assert.deepEqual(directories(dir.path), ids);
        assert.deepEqual(await contents(name, dir.path), left);
      });
    }

    test("a directory that a power cut took is made again, unless it was promised", async () => {
      using dir = fs.mkdtempDisposableSync(path.join(tmpdir(), "snapshot-crash-"));
      {
        await using workers = new TreeWorkers();
        const options = { root: dir.path, workers };
        await using snapshotter = await snapshotters[name].open(ctx, options);
        const [mount] = await snapshotter.prepare(ctx, "one", "");
        fs.writeFileSync(path.join(mount?.source ?? "", "file"), "content");
        await snapshotter.commit(ctx, "base", "one");
        await snapshotter.prepare(ctx, "two", "base");
      }
      fs.rmSync(path.join(dir.path, "snapshots", "2"), { recursive: true });
      fs.mkdirSync(path.join(dir.path, "snapshots", "99"));
      fs.mkdirSync(path.join(dir.path, "snapshots", "new-7"));
      const left = ["committed base", "active two file=content"];
      assert.deepEqual(await contents(name, dir.path), left);
      assert.deepEqual(directories(dir.path), ["1", "2"]);
    });

    test("what was promised and is gone is said, and the others go on", async () => {
      using dir = fs.mkdtempDisposableSync(path.join(tmpdir(), "snapshot-crash-"));
      await using workers = new TreeWorkers();
      const options = { root: dir.path, workers };
      {
        await using snapshotter = await snapshotters[name].open(ctx, options);
        for (const base of ["lost", "kept"]) {
          await snapshotter.prepare(ctx, `${base}-active`, "");
          await snapshotter.commit(ctx, base, `${base}-active`);
        }
      }
      fs.rmSync(path.join(dir.path, "snapshots", "1"), { recursive: true });
      const errors: unknown[] = [];
      const error = (message: string, fields: unknown): void => void errors.push([message, fields]);
      const logger = { ...silentLogger, error };
      await using snapshotter = await snapshotters[name].open(
        Context.background({ logger }),
        options,
      );
      const said = "files of a committed snapshot are gone";
      assert.deepEqual(errors, [[said, { snapshot: "lost", id: 1 }]]);
      const mounts = await snapshotter.prepare(ctx, "on-kept", "kept");
      await mounter.withTempMount(ctx, mounts, async () => {});
      await snapshotter.remove(ctx, "lost");
    });
  });
}

describe("the overlay snapshotter", { skip }, () => {
  test("a root of Go's containerd is left alone", async () => {
    using dir = fs.mkdtempDisposableSync(path.join(tmpdir(), "snapshot-crash-"));
    fs.mkdirSync(path.join(dir.path, "snapshots", "1", "fs"), { recursive: true });
    fs.writeFileSync(path.join(dir.path, "metadata.db"), "bolt");
    await using workers = new TreeWorkers();
    const opening = OverlaySnapshotter.open(ctx, { root: dir.path, workers });
    await assert.rejects(opening, /holds snapshots of another containerd \(metadata\.db\)/);
    assert.deepEqual(fs.readdirSync(dir.path).sort(), ["metadata.db", "snapshots"]);
  });

  test("ids are never used again", async () => {
    using dir = fs.mkdtempDisposableSync(path.join(tmpdir(), "snapshot-crash-"));
    await using workers = new TreeWorkers();
    for (const id of [1, 2]) {
      await using snapshotter = await OverlaySnapshotter.open(ctx, { root: dir.path, workers });
      const [mount] = await snapshotter.prepare(ctx, "a", "");
      assert.equal(mount?.source, path.join(dir.path, "snapshots", String(id), "fs"));
      await snapshotter.remove(ctx, "a");
      await assert.rejects(snapshotter.stat(ctx, "a"), isNotFound);
    }
  });
});
