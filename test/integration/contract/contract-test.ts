import assert from "node:assert/strict";
import { codeOf, type ErrorCode, messageOf } from "#pkg/errors.ts";
import type { TaskClient } from "./task-client.ts";

/** One promise of the task service; containers are named after it, since all share a daemon. */
export type ContractTest = readonly [name: string, body: (client: TaskClient) => Promise<void>];

/** That a call fails with a code and words; daemons before 2.0 put their class behind every word. */
export async function refuses(
  call: Promise<unknown>,
  code: ErrorCode,
  words: string | RegExp,
): Promise<void> {
  await assert.rejects(call, (error) => {
    const message = messageOf(error).replace(/: unknown$/, "");
    if (typeof words === "string") assert.equal(message, words);
    else assert.match(message, words);
    assert.equal(codeOf(error), code, message);
    return true;
  });
}
