import assert from "node:assert/strict";
import { roomTest } from "#test/support/room.ts";
import { lifeTests } from "./contract-life.ts";
import { resourceTests } from "./contract-resources.ts";
import { oursAloneTests, restartTests } from "./contract-restart.ts";
import { TaskClient } from "./task-client.ts";
import { nameOf, needsOf, type Way } from "./way.ts";

/**
 * What a client of the task service is promised, whichever daemon serves it and whichever shim runs
 * the task. Each is proved on Go's daemon with Go's shim first.
 */
export function taskContract(way: Way): void {
  roomTest(
    `the task service of ${nameOf(way)}`,
    async (room, t) => {
      const client = await TaskClient.start(room, way);
      // Restarts come last: a client of the others would lose its calls.
      const tests = [...lifeTests, ...resourceTests, ...restartTests];
      if (way.daemon === "ours") tests.push(...oursAloneTests);
      for (const [name, body] of tests) {
        await t.test(name, { timeout: 30_000 }, () => body(client));
      }
      assert.deepEqual((await client.tasks.list(client.ctx, {})).tasks, []);
    },
    { needs: needsOf(way), timeoutMs: 240_000 },
  );
}
