import assert from "node:assert";
import { test } from "node:test";
import { sandboxOf } from "#core/sandbox/suite.ts";
import type { Labels } from "#pkg/label.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";
import { containerOf, imageOf } from "#test/integration/metadata/fixtures.ts";

const ctx = inNamespace("one");

/** Merged one by one, each into a copy of all, these take minutes in which nobody else is served. */
const keys = Array.from({ length: 10_000 }, (_, i) => `k${i}`);
const given = Object.fromEntries(keys.map((key) => [key, key]));
const fields = ["labels.gone", ...keys.map((key) => `labels.${key}`)];
const before = { gone: "1", kept: "1", k0: "old" };

type Storage = Awaited<ReturnType<typeof testStorage>>["metadata"];
type Update = (storage: Storage) => Promise<{ readonly labels: Labels }>;

const updates: Readonly<Record<string, Update>> = {
  async container({ containers }) {
    await containers.create(ctx, containerOf("c", { labels: before }));
    return containers.update(ctx, containerOf("c", { labels: given }), fields);
  },
  async image({ images }) {
    await images.create(ctx, imageOf("i", "1", before));
    return images.update(ctx, imageOf("i", "1", given), fields);
  },
  async sandbox({ sandboxes }) {
    await sandboxes.create(ctx, sandboxOf("s", { labels: before }));
    return sandboxes.update(ctx, sandboxOf("s", { labels: given }), fields);
  },
};

for (const [what, update] of Object.entries(updates)) {
  test(`thousands of labels are merged in one pass: ${what}`, async (t) => {
    const { metadata } = await testStorage(t);
    const startedAt = performance.now();
    const { labels } = await update(metadata);
    assert.ok(performance.now() - startedAt < 30_000);
    assert.deepStrictEqual(labels, { kept: "1", ...given });
  });
}
