import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { untilServedAgain } from "./served-again.ts";

const hourMs = 3_600_000;
const never = new AbortController().signal;

function pathIn(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "served-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return join(dir, "sock");
}

function make(path: string): void {
  writeFileSync(`${path}.new`, "");
  renameSync(`${path}.new`, path);
}

test("a wait ends when the file comes, and when another takes its place", async (t) => {
  const path = pathIn(t);
  const wait = untilServedAgain(path);
  for (const _ of ["comes", "is replaced"]) {
    const waiting = wait(hourMs, never);
    make(path);
    await waiting;
  }
});

test("what came between two waits ends the second", async (t) => {
  const path = pathIn(t);
  const wait = untilServedAgain(path);
  await wait(0, never);
  make(path);
  await wait(hourMs, never);
});

test("a file that stays is waited past, and an abort or a missing directory is no error", async (t) => {
  const path = pathIn(t);
  make(path);
  const wait = untilServedAgain(path);
  await wait(hourMs, never);
  const controller = new AbortController();
  let isOver = false;
  const waiting = wait(hourMs, controller.signal).then(() => (isOver = true));
  writeFileSync(`${path}.other`, "");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isOver, false);
  controller.abort();
  await waiting;
  await untilServedAgain(`${path}-no/sock`)(0, never);
});
