import assert from "node:assert/strict";
import { test } from "node:test";
import { deadFiles, importRules } from "./tidy-imports.ts";
import {
  disablesHaveReasons,
  documentLinks,
  fileLength,
  fileNames,
  leftoverMarkers,
  lineLength,
  noMachinePaths,
  oneHeading,
  promisesAreHeld,
  type Rule,
} from "./tidy.ts";

/** What a rule says about an invented tree: `path:line problem`, the problem cut at its first colon. */
function findings(rule: Rule, files: Record<string, string>): string[] {
  return rule(new Map(Object.entries(files))).map(
    ({ path, line, problem }) => `${path}:${line} ${problem.split(":")[0]}`,
  );
}

void test("importRules() lets a layer import itself and those before it, not those after it", () => {
  assert.deepEqual(
    findings(importRules, {
      "src/pkg/a.ts": '\nimport { b } from "#core/content/b.ts";\n',
      "src/core/content/b.ts": 'import type { A } from "#pkg/a.ts";\nimport "#core/images/c.ts";\n',
      "src/shim/d.ts": 'const e = await import("#plugins/x/y.ts");',
      "src/cmd/containerd/main.ts": 'import { y } from "#plugins/x/y.ts";',
      "src/core/content/b.test.ts": 'import { room } from "#test/support/room.ts";',
    }),
    ["src/pkg/a.ts:2 pkg imports core", "src/shim/d.ts:1 shim imports plugins"],
  );
});

void test("importRules() keeps relative imports with their noun", () => {
  assert.deepEqual(
    findings(importRules, {
      "src/core/content/a.ts": 'import { b } from "../images/b.ts";\nimport { c } from "./c.ts";',
      "src/pkg/rpc/grpc/server.ts": 'export type { X } from "../service.ts";',
    }),
    ["src/core/content/a.ts:1 ../images/b.ts leaves src/core/content/"],
  );
});

void test("importRules() keeps generated code at the edge", () => {
  const text = 'import { X } from "#api/services/x_pb.ts";';
  assert.deepEqual(
    findings(importRules, {
      "src/core/content/content.ts": text,
      "src/core/content/proxy.ts": text,
      "src/core/content/bootstrap-convert.ts": text,
      "src/plugins/services/content/service.ts": text,
    }),
    [
      "src/core/content/content.ts:1 #api/services/x_pb.ts outside a convert, service or proxy file",
    ],
  );
});

void test("deadFiles() finds what only its own test imports", () => {
  assert.deepEqual(
    findings(deadFiles, {
      "src/cmd/containerd/main.ts": 'import "#pkg/used.ts"; new Worker("#pkg/worker.ts");',
      "src/pkg/used.ts": "",
      "src/pkg/worker.ts": "",
      "src/pkg/dead.ts": "",
      "src/pkg/dead.test.ts": 'import "#pkg/dead.ts";',
    }),
    ["src/pkg/dead.ts:1 nothing imports it"],
  );
});

void test("fileNames() refuses names that say nothing", () => {
  assert.deepEqual(
    findings(fileNames, {
      "src/core/helpers.ts": "",
      "src/common/a.ts": "",
      "src/plugins/types.ts": "",
      "src/core/types.test.ts": "",
      "src/core/content/content.ts": "",
    }),
    [
      "src/core/helpers.ts:1 says nothing",
      "src/common/a.ts:1 says nothing",
      "src/core/types.test.ts:1 says nothing",
    ],
  );
});

void test("the rules about lines name the line", () => {
  const lines = (text: string): Record<string, string> => ({ "src/a.ts": `ok\n${text}\n` });
  assert.deepEqual(findings(leftoverMarkers, lines(`// ${"TO"}DO later`)), [
    `src/a.ts:2 ${"TO"}DO is left over`,
  ]);
  assert.deepEqual(findings(noMachinePaths, lines(`"/wo${"rk"}/main"`)).length, 1);
  assert.deepEqual(findings(lineLength, lines("x".repeat(121))), ["src/a.ts:2 121 columns"]);
  assert.deepEqual(findings(lineLength, lines("x".repeat(120))), []);
  assert.deepEqual(findings(fileLength, lines("\n".repeat(500))).length, 1);
  const disable = `// oxlint-${"disable"}-next-line no-console`;
  assert.deepEqual(findings(disablesHaveReasons, lines(disable)).length, 1);
  assert.deepEqual(findings(disablesHaveReasons, lines(`${disable} -- its output`)), []);
});

void test("documentLinks() follows links and paths in backquotes", () => {
  assert.deepEqual(
    findings(documentLinks, {
      "docs/a.md": "[b](b.md#x) [c](../src/c.ts) [web](https://example.org) [self](#x)",
      "docs/b.md": "see `test/none.test.ts`\n[gone](gone.md)\n[folder](../src/)",
      "src/c.ts": "",
    }),
    ["docs/b.md:1 test/none.test.ts does not exist", "docs/b.md:2 docs/gone.md does not exist"],
  );
});

void test("oneHeading() counts headings outside of code", () => {
  assert.deepEqual(
    findings(oneHeading, { "a.md": "# A\n```\n# no\n```\n", "b.md": "# A\n\n# B\n", "c.md": "c" }),
    ["b.md:1 2 first-level headings", "c.md:1 0 first-level headings"],
  );
});

void test("promisesAreHeld() wants a test or a pending in each row", () => {
  const text = [
    "| promise | held by |",
    "|---|---|",
    "| it runs | `test/a.test.ts` |",
    "| it stops | pending |",
    "| it flies | of course |",
    "## Answers that differ on purpose",
    "| case | why |",
  ].join("\n");
  assert.deepEqual(findings(promisesAreHeld, { "docs/compat.md": text }), [
    "docs/compat.md:5 a promise without a test",
  ]);
});
