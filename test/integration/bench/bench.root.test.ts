import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { run } from "#test/support/command.ts";
import { whyNot } from "#test/support/needs.ts";

const program = join(import.meta.dirname, "../../../bench/run.ts");

interface Row {
  readonly bench: string;
  readonly measure: string;
  readonly unit: string;
  readonly go?: { readonly median: number };
  readonly ours?: { readonly median: number };
  readonly ratio?: number;
}

const reason = whyNot(["root"]);

void test("a bench measures both daemons, and a ratio below 1 is ours to win", {
  ...(reason !== undefined && { skip: reason }),
  timeout: 120_000,
}, async () => {
  const flags = ["--rounds=1", "--scale=0.01", "--json"];
  const output = await run([process.execPath, program, "start-delete", "rpc", ...flags], {
    timeoutMs: 100_000,
  });
  assert.equal(output.code, 0, output.stderr);
  const { rows, failed } = JSON.parse(output.stdout) as { rows: Row[]; failed: string[] }; // -- asserted below
  assert.deepEqual(failed, []);
  assert.deepEqual(new Set(rows.map(({ bench }) => bench)), new Set(["start-delete", "rpc"]));
  for (const { measure, unit, go, ours, ratio } of rows) {
    // So few calls may use less of the processor than the kernel counts.
    if (measure.endsWith("processor")) continue;
    assert.ok(go && ours, `${measure}: ${JSON.stringify({ go, ours })}`);
    const more = unit === "calls/s" || unit === "MB/s" ? go.median / ours.median : undefined;
    assert.equal(ratio, more ?? ours.median / go.median, measure);
  }
});

void test("a bench that does not exist is named", {
  ...(reason !== undefined && { skip: reason }),
}, async () => {
  const output = await run([process.execPath, program, "no-such-bench"]);
  assert.equal(output.code, 1);
  assert.match(output.stderr, /no bench is called no-such-bench/);
});
