import assert from "node:assert";
import fc from "fast-check";
import { digestOf } from "#pkg/digest.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { inNamespace, openStorage } from "#test/integration/metadata/daemon-storage.ts";
import { collected } from "#test/integration/metadata/fixtures.ts";

const key = fc.constantFrom("a", "b.c", 'd"e');
const blob = fc.record({
  ns: fc.constantFrom("one", "two"),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 4 }),
  labels: fc.dictionary(key, fc.constantFrom("1", "2"), { noNullPrototype: true }),
});
const quoted = (text: string): string => `"${text.replaceAll('"', '\\"')}"`;

/** A walk tells of every blob of its namespace that its filters match, once, and of none besides. */
export const target = fuzzTarget({
  name: "CSWalk",
  smokeRuns: 20,
  inputs: fc.record({
    blobs: fc.array(blob, { maxLength: 130 }),
    ask: fc.array(fc.tuple(key, fc.constantFrom("1", "2")), { maxLength: 2 }),
  }),
  async check({ blobs, ask }, dir) {
    await using storage = await openStorage(dir, { noSync: true });
    const { content } = storage.metadata;
    const expected = new Map<string, Readonly<Record<string, string>>>();
    for (const [i, { ns, bytes, labels }] of blobs.entries()) {
      const digest = digestOf(bytes);
      const known = `${ns} ${digest}`;
      if (expected.has(known)) continue;
      expected.set(known, labels);
      await using writer = await content.writer(inNamespace(ns), { ref: `ref-${i}` });
      await writer.write(bytes);
      await writer.commit(inNamespace(ns), { labels });
    }
    const filters = ask.map(([name, value]) => `labels.${quoted(name)}==${value}`);
    for (const ns of ["one", "two"]) {
      const listed = await collected(content.list(inNamespace(ns), filters));
      const wanted = [...expected]
        .filter(([known]) => known.startsWith(`${ns} `))
        .filter(([, labels]) => ask.length === 0 || ask.some(([k, value]) => labels[k] === value));
      assert.deepStrictEqual(
        new Map(listed.map((info) => [`${ns} ${info.digest}`, info.labels])),
        new Map(wanted),
      );
      assert.strictEqual(listed.length, wanted.length);
    }
  },
});
