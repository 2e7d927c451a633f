import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyTally, judgeSkips, summaryLines } from "#test/support/tally.ts";

const skip = { file: "test/a.root.test.ts", name: "pulls", reason: "needs crun on PATH" };
const root = { ...emptyTally("root"), tests: 3, passed: 2, skips: [skip] };
const unit = { ...emptyTally("unit"), tests: 5, passed: 4, failed: 1 };

void test("judgeSkips() lets through what is listed with its reason, and nothing else", () => {
  const listed = { file: skip.file, reason: skip.reason, why: "crun is not packaged there" };
  assert.deepEqual(judgeSkips([unit, root], [listed]), []);
  const { file: _file, ...anywhere } = listed;
  assert.deepEqual(judgeSkips([root], [anywhere]), []);
  assert.deepEqual(judgeSkips([root], [{ ...listed, reason: "needs root" }]), [skip]);
  assert.deepEqual(judgeSkips([root], [{ ...listed, file: "test/b.root.test.ts" }]), [skip]);
});

void test("summaryLines() counts an unexpected skip as a failure and ends as node's own summary", () => {
  const lines = summaryLines([unit, root], { unexpectedSkips: [skip], durationMs: 1234.5 });
  assert.deepEqual(lines, [
    "skipped, needs crun on PATH: pulls",
    "not in test/expected-skips.json: test/a.root.test.ts: pulls: needs crun on PATH",
    "unit     4 passed, 1 failed, 0 skipped, 0.0 s",
    "root     2 passed, 0 failed, 1 skipped, 0.0 s",
    "# tests 9",
    "# suites 2",
    "# pass 6",
    "# fail 2",
    "# cancelled 0",
    "# skipped 1",
    "# todo 0",
    "# duration_ms 1235",
  ]);
});
