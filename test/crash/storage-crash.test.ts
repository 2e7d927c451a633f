import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { checkAfterCrash, runProgram } from "#test/crash/storage-check.ts";

async function tempRoot(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "storage-crash-"));
  t.after(() => rm(root, { recursive: true }));
  return root;
}

const images = [0, 4] as const;

/** Every failpoint with how often an undisturbed run comes by it. */
async function failpointHits(t: TestContext): Promise<Map<string, number>> {
  const env = { RECORD_FAILPOINTS: "1" };
  const { told } = await runProgram(await tempRoot(t), { images, env });
  assert.deepStrictEqual(told.at(-1), { is: "done" });
  const hits = new Map<string, number>();
  for (const item of told) {
    if (item.is === "hit") hits.set(item.failpoint, (hits.get(item.failpoint) ?? 0) + 1);
  }
  return hits;
}

test("a kill between any two durable steps of storage loses nothing", async (t) => {
  const hits = await failpointHits(t);
  assert.deepStrictEqual([...hits.keys()].toSorted(), [
    "backend.before-commit",
    "content.after-directory-sync",
    "content.after-ingest-removed",
    "content.after-rename",
    "content.after-sync",
    "content.before-sync",
    "database.after-commit",
    "database.after-sync",
    "database.before-commit",
    "metadata.collected-before-sweep",
    "metadata.content-before-record",
    "metadata.marked",
    "metadata.snapshot-before-record",
    "metadata.snapshot-commit-before-record",
    "metadata.snapshot-commit-intended",
    "metadata.sweep-before-snapshot",
  ]);
  for (const [name, count] of hits) {
    const at = process.env["CRASH_EVERYWHERE"]
      ? Array.from({ length: count }, (_, n) => n + 1)
      : [...new Set([1, Math.ceil(count / 2)])];
    for (const n of at) {
      await t.test(`${name}, hit ${n} of ${count}`, async (u) => {
        const root = await tempRoot(u);
        const env = { CONTAINERD_FAILPOINTS: `${name}=kill:${n}` };
        const { told, killed } = await runProgram(root, { images, env });
        // Runs differ in how they share syncs and collections, so a late hit may not come.
        assert.ok(killed || n > 1, "the failpoint was not hit");
        await checkAfterCrash(root, told);
      });
    }
  }
});

test("a kill at any moment of pulls, removals and collections loses nothing", async (t) => {
  const seeds = Number(process.env["CRASH_SEEDS"] ?? 8);
  for (let seed = 1; seed <= seeds; seed++) {
    await t.test(`seed ${seed}`, async (u) => {
      const root = await tempRoot(u);
      // A fixed walk over the run: each seed kills after another number of things were told.
      const after = 1 + ((seed * 7) % 40);
      const { told } = await runProgram(root, {
        images: [0, 16],
        stop: (sofar) => sofar.length >= after,
      });
      await checkAfterCrash(root, told);
    });
  }
});

test("a crash after a crash loses nothing", async (t) => {
  const root = await tempRoot(t);
  const told = [];
  for (const [n, failpoint] of [
    "metadata.snapshot-commit-before-record=kill:2",
    "content.after-rename=kill:2",
    "metadata.sweep-before-snapshot=kill:1",
  ].entries()) {
    const env = { CONTAINERD_FAILPOINTS: failpoint };
    const run = await runProgram(root, { images: [n * 4, n * 4 + 4], env });
    told.push(...run.told);
  }
  await checkAfterCrash(root, told);
});
