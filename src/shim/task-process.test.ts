import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Context } from "#pkg/context.ts";
import { TaskProcess } from "./task-process.ts";

const stdio = { stdin: "", stdout: "", stderr: "", terminal: false };
const record = { pid: 7, startTime: "1", pipes: {} };
const ctx = Context.background();

function exec(): TaskProcess {
  const name = { containerId: "c1", execId: "e1" };
  const process = new TaskProcess(name, stdio, {
    exit: (exit) => process.apply({ type: "exited", exit }),
    endsChanged: () => {},
  });
  return process;
}

test("who waits for a process that failed to start hears so, and of its next start the end", async () => {
  const process = exec();
  const first = process.wait(ctx);
  process.failed();
  assert.equal(await first, undefined);
  let isOver = false;
  const second = process.wait(ctx).finally(() => {
    isOver = true;
  });
  process.started(record);
  await turn();
  assert.equal(isOver, false);
  const exit = { pid: 7, status: 3, at: 17n };
  process.reportExit(exit);
  assert.deepEqual(await second, exit);
});
