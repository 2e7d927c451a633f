import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parse } from "smol-toml";
import { formatToml } from "#cmd/containerd/config/toml-writer.ts";

test("formatToml() writes values before tables, tables indented, as Go containerd does", () => {
  const toml = formatToml({
    version: 4,
    list: ["a", "b"],
    none: undefined,
    debug: { level: "" },
    plugins: {
      "io.containerd.gc.v1.scheduler": { pause_threshold: 0.02, on: true },
      "io.containerd.x.v1.y": { inner: { a: { b: 1 } }, rows: [{ n: 1 }, { n: 2 }], empty: {} },
    },
    quoted: 'it\'s "so"\n\u0001\\',
  });
  assert.equal(
    toml,
    `version = 4
list = ['a', 'b']
quoted = "it's \\"so\\"\\n\\u0001\\\\"

[debug]
  level = ''

[plugins]
  [plugins.'io.containerd.gc.v1.scheduler']
    pause_threshold = 0.02
    on = true

  [plugins.'io.containerd.x.v1.y']
    [plugins.'io.containerd.x.v1.y'.inner]
      [plugins.'io.containerd.x.v1.y'.inner.a]
        b = 1

    [[plugins.'io.containerd.x.v1.y'.rows]]
      n = 1

    [[plugins.'io.containerd.x.v1.y'.rows]]
      n = 2

    [plugins.'io.containerd.x.v1.y'.empty]
`,
  );
});

test("what formatToml() writes reads back the same", () => {
  const key = fc.string({ unit: "grapheme", maxLength: 6 });
  const scalar = fc.oneof(
    fc.string({ unit: "binary" }).filter((s) => s.isWellFormed()),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true }).map((n) => n + 0),
    fc.boolean(),
  );
  const { table } = fc.letrec<{ table: Record<string, unknown>; value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      scalar,
      fc.array(scalar, { maxLength: 3 }),
      fc.array(tie("table"), { minLength: 1, maxLength: 2 }),
      tie("table"),
    ),
    table: fc.dictionary(key, tie("value"), { maxKeys: 4, noNullPrototype: true }),
  }));
  fc.assert(
    fc.property(table, (value) => {
      const back: unknown = JSON.parse(JSON.stringify(parse(formatToml(value))));
      assert.deepEqual(back, JSON.parse(JSON.stringify(value)));
    }),
  );
});
