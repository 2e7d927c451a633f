import assert from "node:assert/strict";
import { test } from "node:test";
import { SharedTreeWorkers } from "#pkg/archive/shared-tree-workers.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";

test("a pool ends with the last of its owners, and the next one has another", async () => {
  const shared = new SharedTreeWorkers();
  const first = shared.acquire();
  const second = shared.acquire();
  const { workers } = second;
  assert.equal(first.workers, workers);
  const usage = { kind: "usage", path: import.meta.dirname } as const;
  await first[Symbol.asyncDispose]();
  assert.ok((await workers.run(Context.background(), usage)).inodes > 1);
  await second[Symbol.asyncDispose]();
  await assert.rejects(
    workers.run(Context.background(), usage),
    (error) => codeOf(error) === "unavailable",
  );
  await using third = shared.acquire();
  assert.notEqual(third.workers, workers);
});
