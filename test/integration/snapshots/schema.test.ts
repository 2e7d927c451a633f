import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { SnapshotRecords } from "#core/snapshots/records.ts";
import { Context } from "#pkg/context.ts";

/** A snapshotter's database as each version left it: its tables as they were, with rows. */
const versions: readonly string[] = [
  `
  CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
    parent_id INTEGER REFERENCES snapshots (id),
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    inodes INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX snapshots_by_parent ON snapshots (parent_id) WHERE parent_id IS NOT NULL;
  INSERT INTO snapshots VALUES (3, 'base', 'committed', NULL, '{"l":"v"}', 5, 6, 70, 8);
  INSERT INTO snapshots VALUES (4, 'active', 'active', 3, '{}', 9, 10, 0, 0);
  INSERT INTO snapshots VALUES (9, 'gone', 'view', NULL, '{}', 11, 12, 0, 0);
  DELETE FROM snapshots WHERE id = 9;
  PRAGMA user_version = 1;
  `,
];

for (const [index, sql] of versions.entries()) {
  test(`a snapshotter's database of version ${index + 1} is read and gone on with`, async (t) => {
    const root = await mkdtemp(join(tmpdir(), "snapshot-schema-"));
    t.after(() => rm(root, { recursive: true }));
    const old = new DatabaseSync(join(root, "metadata.sqlite"));
    old.exec(sql);
    old.close();
    await using records = await SnapshotRecords.open(Context.background(), root);
    assert.deepEqual(await records.get("base"), {
      id: 3,
      info: {
        kind: "committed",
        name: "base",
        parent: "",
        labels: { l: "v" },
        createdAt: 5n,
        updatedAt: 6n,
      },
      usage: { sizeBytes: 70, inodes: 8 },
    });
    assert.deepEqual((await records.chain("active")).parentIds, [3]);
    // The number of what is gone is not used again.
    assert.equal(records.allocateId(), 10);
    await records.create(10, "active", "new", "base", {});
    assert.deepEqual((await records.chain("new")).parentIds, [3]);
  });
}

test("every version that a new database goes through is among them", async (t) => {
  const root = await mkdtemp(join(tmpdir(), "snapshot-schema-"));
  t.after(() => rm(root, { recursive: true }));
  {
    await using _records = await SnapshotRecords.open(Context.background(), root);
  }
  const db = new DatabaseSync(join(root, "metadata.sqlite"));
  t.after(() => db.close());
  assert.equal(db.prepare("PRAGMA user_version").get()?.["user_version"], versions.length);
});
