import assert from "node:assert";
import { type FileHandle, mkdtemp, open as openFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, test } from "node:test";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { DurableDatabase, type Migration } from "#pkg/sqlite/database.ts";
import { number, text } from "#pkg/sqlite/row.ts";

const ctx = Context.background();
const v1 = "CREATE TABLE t (k TEXT PRIMARY KEY, v INTEGER NOT NULL) STRICT";
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "database-test-"));
});
afterEach(() => rm(dir, { recursive: true }));

const open = (migrations: readonly Migration[] = [v1]): Promise<DurableDatabase> =>
  DurableDatabase.open(ctx, { path: join(dir, "t.sqlite"), migrations });

const keys = (db: DurableDatabase): Promise<string[]> =>
  db.view((sql) => sql.all("SELECT k FROM t ORDER BY k").map((row) => text(row, "k")));

test("what was written is there after a reopening", async () => {
  {
    await using db = await open();
    await db.update((sql) => sql.run("INSERT INTO t VALUES (?, ?)", "a", 2n ** 53n - 1n));
  }
  await using db = await open();
  const [row] = await db.view((sql) => sql.all("SELECT * FROM t"));
  assert.ok(row);
  assert.strictEqual(number(row, "v"), Number.MAX_SAFE_INTEGER);
});

test("update() that throws leaves nothing and the database usable", async () => {
  await using db = await open();
  const failing = db.update((sql) => {
    sql.run("INSERT INTO t VALUES ('a', 1)");
    throw new Error("no");
  });
  await assert.rejects(failing, /no/);
  await db.update((sql) => sql.run("INSERT INTO t VALUES ('b', 1)"));
  assert.deepStrictEqual(await keys(db), ["b"]);
});

test("many updates at once are all there, and a log is copied into the database", async () => {
  await using db = await open();
  const all = Array.from({ length: 3000 }, (_, i) => `k${String(i).padStart(4, "0")}`);
  await Promise.all(all.map((k) => db.update((sql) => sql.run("INSERT INTO t VALUES (?, 1)", k))));
  assert.deepStrictEqual(await keys(db), all);
});

test("nothing is answered while the sync that it needs is under way, be it another's", async (t) => {
  await using db = await open();
  await db.update((sql) => sql.run("INSERT INTO t VALUES ('a', 1)"));
  await using file = await openFile(join(dir, "t.sqlite"));
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  // -- the handle of the log is of the same class
  const handles = Object.getPrototypeOf(file) as FileHandle;
  t.mock.method(handles, "datasync", async () => {
    started.resolve();
    await mayEnd;
  });
  const answers: string[] = [];
  const note = (what: string) => (): void => void answers.push(what);
  const written = db.update((sql) => sql.run("INSERT INTO t VALUES ('b', 1)")).then(note("write"));
  await started.promise;
  const read = keys(db).then(note("read"));
  const again = db.update((sql) => sql.run("INSERT INTO t VALUES ('b', 1)"));
  const refused = again.catch(note("refusal"));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepStrictEqual(answers, []);
  end();
  await Promise.all([written, read, refused]);
  assert.deepStrictEqual(new Set(answers), new Set(["read", "refusal", "write"]));
});

test("open() refuses a database that another connection holds", async () => {
  await using _db = await open();
  await assert.rejects(open(), (error) => codeOf(error) === "unavailable");
});

test("open() waits for the holder as long as it was told", async () => {
  const first = await open();
  const second = DurableDatabase.open(ctx, {
    path: join(dir, "t.sqlite"),
    migrations: [v1],
    lockTimeoutMs: 60_000,
  });
  await first.close();
  await using _db = await second;
});

test("open() runs the migrations that are missing, once", async () => {
  await (await open()).close();
  const v2: Migration = (sql) => sql.run("INSERT INTO t VALUES ('migrated', 2)");
  await (await open([v1, v2])).close();
  await using db = await open([v1, v2]);
  assert.deepStrictEqual(await keys(db), ["migrated"]);
});

test("a migration that fails leaves the version before", async () => {
  await (await open()).close();
  const bad: Migration = (sql) => {
    sql.run("INSERT INTO t VALUES ('half', 2)");
    throw new Error("bad migration");
  };
  await assert.rejects(open([v1, bad]), /migration to version 2: bad migration/);
  await using db = await open();
  assert.deepStrictEqual(await keys(db), []);
});

test("open() refuses a database of a newer version", async () => {
  await (await open([v1, "CREATE TABLE u (x INTEGER) STRICT"])).close();
  await assert.rejects(open(), /has version 2, this program knows up to 1: failed precondition/);
});

test("open() refuses a file that is no database", async () => {
  const { writeFile } = await import("node:fs/promises");
  await writeFile(join(dir, "t.sqlite"), "this is not a database".repeat(100));
  await assert.rejects(open(), (error) => codeOf(error) === "data-loss");
});

test("another program can read it meanwhile", async () => {
  await using db = await open();
  await db.update((sql) => sql.run("INSERT INTO t VALUES ('a', 1)"));
  using reader = new DatabaseSync(join(dir, "t.sqlite"), { readOnly: true });
  assert.deepStrictEqual({ ...reader.prepare("SELECT * FROM t").get() }, { k: "a", v: 1 });
});

test("a closed database refuses", async () => {
  const db = await open();
  await db.close();
  await db.close();
  await assert.rejects(keys(db), /is closed: failed precondition/);
});
