import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { migrations } from "#core/metadata/schema.ts";
import { openMetadata } from "#core/metadata/open.ts";
import { Context } from "#pkg/context.ts";
import { digestOf } from "#pkg/digest.ts";
import { LocalContentStore } from "#plugins/content/local/local-content-store.ts";

/** Rows as the daemon of each version wrote them. */
const rowsOfVersion: readonly string[] = [
  `
  INSERT INTO namespaces VALUES ('old', '{"a":"b"}');
  INSERT INTO nodes VALUES (1, 'old', 'image', 'img'), (2, 'old', 'content', '${digestOf("m")}');
  INSERT INTO images VALUES (1, 2, '${digestOf("m")}', 'type', 1, '{"n":"o"}', NULL, '{"l":"v"}', 5, 6);
  INSERT INTO refs VALUES (1, 2, 1);
  INSERT INTO leases VALUES (1, 'old', 'lease', NULL, 0, '{}', 7);
  INSERT INTO lease_resources VALUES (1, 2);
  `,
];

test("every version that was ever written has its rows here", () => {
  assert.strictEqual(rowsOfVersion.length, migrations.length);
});

for (const [index, rows] of rowsOfVersion.entries()) {
  test(`a database of version ${index + 1} is read`, async (t) => {
    const root = await mkdtemp(join(tmpdir(), "schema-test-"));
    t.after(() => rm(root, { recursive: true }));
    const path = join(root, "meta.sqlite");
    const old = new DatabaseSync(path);
    for (const migration of migrations.slice(0, index + 1)) {
      assert.ok(typeof migration === "string");
      old.exec(migration);
    }
    old.exec(`${rows}; PRAGMA user_version = ${index + 1}`);
    old.close();
    const ctx = Context.background({ namespace: "old" });
    const content = await LocalContentStore.open(join(root, "content"));
    await using metadata = await openMetadata(ctx, { path, content });
    const image = await metadata.images.get(ctx, "img");
    assert.deepStrictEqual(image, {
      name: "img",
      labels: { l: "v" },
      target: {
        digest: digestOf("m"),
        mediaType: "type",
        sizeBytes: 1,
        annotations: { n: "o" },
      },
      createdAt: 5n,
      updatedAt: 6n,
    });
    assert.deepStrictEqual(await metadata.namespaces.labels(ctx, "old"), { a: "b" });
    assert.deepStrictEqual(await metadata.leases.listResources(ctx, "lease"), [
      { type: "content", id: digestOf("m") },
    ]);
  });
}
