import assert from "node:assert";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test, type TestContext } from "node:test";
import type { Metadata } from "#core/metadata/metadata.ts";
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
  `
  INSERT INTO namespaces VALUES ('old', '{"a":"b"}');
  INSERT INTO nodes VALUES (1, 'old', 'image', 'img'), (2, 'old', 'content', '${digestOf("m")}');
  INSERT INTO images VALUES (1, 2, '${digestOf("m")}', 'type', 1, '{"n":"o"}', NULL, '{"l":"v"}', 5, 6);
  INSERT INTO refs VALUES (1, 2, 1);
  INSERT INTO leases VALUES (1, 'old', 'lease', NULL, 0, '{}', 7);
  INSERT INTO lease_resources VALUES (1, 2);
  INSERT INTO nodes VALUES (3, 'old', 'sandbox', 'pod');
  INSERT INTO sandboxes VALUES (3, 'r', 't', x'01', 's', x'02', 'shim', '{"e":"t AQ=="}', '{"l":"v"}', 8, 9);
  `,
];

test("every version that was ever written has its rows here", () => {
  assert.strictEqual(rowsOfVersion.length, migrations.length);
});

/** The daemon's storage over a database as version `index + 1` left it. */
async function opened(
  t: TestContext,
  index: number,
): Promise<{ ctx: Context; metadata: Metadata }> {
  const root = await mkdtemp(join(tmpdir(), "schema-test-"));
  const path = join(root, "meta.sqlite");
  const old = new DatabaseSync(path);
  for (const migration of migrations.slice(0, index + 1)) {
    assert.ok(typeof migration === "string");
    old.exec(migration);
  }
  old.exec(`${rowsOfVersion[index]}; PRAGMA user_version = ${index + 1}`);
  old.close();
  const ctx = Context.background({ namespace: "old" });
  const content = await LocalContentStore.open(join(root, "content"));
  const metadata = await openMetadata(ctx, { path, content });
  t.after(async () => {
    await metadata.close();
    await rm(root, { recursive: true });
  });
  return { ctx, metadata };
}

for (const index of rowsOfVersion.keys()) {
  test(`a database of version ${index + 1} is read`, async (t) => {
    const { ctx, metadata } = await opened(t, index);
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

test("the sandboxes of version 2 are read", async (t) => {
  const { ctx, metadata } = await opened(t, 1);
  assert.deepStrictEqual(await metadata.sandboxes.list(ctx), [
    {
      id: "pod",
      labels: { l: "v" },
      runtime: { name: "r", options: { typeUrl: "t", value: new Uint8Array([1]) } },
      spec: { typeUrl: "s", value: new Uint8Array([2]) },
      sandboxer: "shim",
      createdAt: 8n,
      updatedAt: 9n,
      extensions: { e: { typeUrl: "t", value: new Uint8Array([1]) } },
    },
  ]);
});
