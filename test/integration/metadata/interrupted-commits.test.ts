import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { rejects } from "#core/content/suite.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import { type Failpoints } from "#pkg/failpoint.ts";
import { CodedError } from "#pkg/errors.ts";
import {
  type DaemonStorage,
  inNamespace,
  openStorage,
} from "#test/integration/metadata/daemon-storage.ts";
import { FileSnapshotter } from "#test/integration/metadata/file-snapshotter.ts";

const ctx = inNamespace("one");

/** A root in which a commit of `k` as `n` has happened in the backend and is not recorded. */
async function interrupted(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "commits-"));
  t.after(() => rm(root, { recursive: true }));
  const failpoints: Failpoints = {
    hit(name) {
      if (name === "metadata.snapshot-commit-before-record") throw new Error("killed");
    },
  };
  await using storage = await openStorage(root, { failpoints });
  await storage.overlay.prepare(ctx, "k", "");
  await assert.rejects(storage.overlay.commit(ctx, "n", "k"), /killed/);
  return root;
}

/** Starts with the snapshotter's `stat` replaced. */
async function start(
  t: TestContext,
  root: string,
  stat: Snapshotter["stat"],
): Promise<DaemonStorage & { heal(): void }> {
  const backend = await FileSnapshotter.open(join(root, "snapshots"));
  const mocked = t.mock.method(backend, "stat", stat);
  const storage = await openStorage(root, {
    snapshotters: new Map([["overlayfs", backend]]),
    settleTimeoutMs: 50,
  });
  t.after(() => storage[Symbol.asyncDispose]());
  return { ...storage, heal: () => mocked.mock.restore() };
}

/** The commit is there once its key or its name is committed again. */
async function assertSettledLater(storage: DaemonStorage & { heal(): void }): Promise<void> {
  await rejects(storage.overlay.stat(ctx, "n"), "not-found");
  storage.heal();
  await storage.overlay.prepare(ctx, "again", "");
  await rejects(storage.overlay.commit(ctx, "n", "again"), "already-exists");
  assert.strictEqual((await storage.overlay.stat(ctx, "n")).kind, "committed");
}

for (const code of ["internal", "not-implemented", "unknown", "unavailable"] as const) {
  test(`a snapshotter that answers ${code} keeps its interrupted commit, and nobody from starting`, async (t) => {
    const root = await interrupted(t);
    const storage = await start(t, root, async () => {
      throw new CodedError(code, "ill");
    });
    await assertSettledLater(storage);
  });
}

test("a snapshotter that never answers keeps its interrupted commit, and nobody from starting", async (t) => {
  const root = await interrupted(t);
  const storage = await start(t, root, () => new Promise(() => {}));
  await assertSettledLater(storage);
});

test("an interrupted commit is settled by the start where the snapshotter answers", async (t) => {
  const root = await interrupted(t);
  await using storage = await openStorage(root);
  assert.strictEqual((await storage.overlay.stat(ctx, "n")).kind, "committed");
  await rejects(storage.overlay.stat(ctx, "k"), "not-found");
});
