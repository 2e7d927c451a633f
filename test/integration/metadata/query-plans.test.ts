import assert from "node:assert";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { put } from "#core/content/suite.ts";
import { migrations } from "#core/metadata/schema.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { imageOf } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");

/** The steps in which a query looks through all nodes, or through all of a kind in a namespace. */
function scanned(database: DatabaseSync, sql: string): string[] {
  const plan = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all();
  return plan
    .map((row) => String(row["detail"]))
    .filter((detail) => /^SCAN (n|nodes)\b|^SEARCH (n|nodes) .*\bkind=\?\)/.test(detail));
}

test("no query of a pull, a run, a removal or a collection looks through all nodes", async (t) => {
  const queries = new Set<string>();
  // oxlint-disable-next-line typescript/unbound-method -- called below with what it is of
  const prepare = DatabaseSync.prototype.prepare;
  t.mock.method(DatabaseSync.prototype, "prepare", function (this: DatabaseSync, sql: string) {
    queries.add(sql);
    return prepare.call(this, sql);
  });
  const storage = await testStorage(t);
  const { metadata, overlay } = storage;
  // Of the opening, which looks for nodes that nothing needs among all of them.
  queries.clear();
  await metadata.leases.create(ctx, { id: "l", labels: {} });
  const leased = ctx.withLease("l");
  const digest = await put(leased, metadata.content, "r", Buffer.from("blob"));
  await overlay.prepare(leased, "k", "");
  await overlay.commit(leased, "n", "k");
  await overlay.prepare(leased, "c", "n");
  await metadata.images.create(leased, imageOf("img", "blob"));
  await metadata.leases.delete(ctx, "l", { sync: true });
  await metadata.images.delete(ctx, "img", { sync: true });
  await metadata.content.writer(ctx, { ref: "r2", expected: digest }).then((w) => w.close());
  await metadata.content.abort(ctx, "r2");
  await metadata.collector.scheduleAndWait(ctx);
  // Without statistics, which an old database need not have either.
  using reader = new DatabaseSync(":memory:");
  for (const migration of migrations) reader.exec(String(migration));
  const asked = [...queries].filter((sql) => /\bnodes\b/.test(sql) && !/^\s*EXPLAIN/.test(sql));
  assert.ok(asked.length > 8);
  assert.deepStrictEqual(
    asked.filter((sql) => scanned(reader, sql).length > 0),
    [],
  );
});
