import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Semaphore } from "#pkg/semaphore.ts";

test("a semaphore lets in as many as it has room for, the others in their order", async () => {
  const semaphore = new Semaphore(2);
  const held = new Map<string, Disposable>();
  const enter = async (name: string): Promise<void> => {
    held.set(name, await semaphore.acquire());
  };
  for (const name of ["a", "b", "c", "d"]) void enter(name);
  await turn();
  assert.deepEqual([...held.keys()], ["a", "b"]);
  const [a, b] = [held.get("a"), held.get("b")];
  a?.[Symbol.dispose]();
  a?.[Symbol.dispose]();
  await turn();
  assert.deepEqual([...held.keys()], ["a", "b", "c"]);
  for (const one of [b, held.get("c")]) one?.[Symbol.dispose]();
  await turn();
  assert.deepEqual([...held.keys()], ["a", "b", "c", "d"]);
  await enter("e");
  assert.equal(held.size, 5);
});
