import assert from "node:assert/strict";
import { test } from "node:test";
import { RestartBackOff } from "./restart-back-off.ts";

const options = { delaysMs: [0, 10, 100], steadyMs: 1_000, giveUpMs: 5_000 } as const;

test("one that dies again and again is started later each time, and never given up", () => {
  const backOff = new RestartBackOff(options);
  const delays: (number | undefined)[] = [];
  for (let nowMs = 0; nowMs < 100_000; nowMs += 500) {
    backOff.serves(nowMs);
    delays.push(backOff.nextDelayMs(nowMs + 1));
  }
  assert.deepEqual(delays.slice(0, 4), [0, 10, 100, 100]);
  assert.deepEqual(new Set(delays.slice(4)), new Set([100]));
});

test("who has served for long is started at once", () => {
  const backOff = new RestartBackOff(options);
  for (const nowMs of [0, 10, 20]) {
    backOff.serves(nowMs);
    backOff.nextDelayMs(nowMs + 1);
  }
  assert.equal(backOff.startsInARow, 3);
  backOff.serves(30);
  assert.equal(backOff.nextDelayMs(1_030), 0);
  backOff.serves(1_040);
  assert.equal(backOff.nextDelayMs(1_050), 10);
});

test("one that cannot be started is given up when its time has passed, and not before", () => {
  const backOff = new RestartBackOff(options);
  backOff.serves(0);
  assert.equal(backOff.nextDelayMs(10), 0);
  // The time counts from the first failure on.
  assert.equal(backOff.nextDelayMs(100), 10);
  assert.equal(backOff.nextDelayMs(5_099), 100);
  assert.equal(backOff.nextDelayMs(5_100), undefined);
});

test("a start that succeeds in between begins the time anew", () => {
  const backOff = new RestartBackOff(options);
  assert.equal(backOff.nextDelayMs(0), 0);
  assert.equal(backOff.nextDelayMs(4_000), 10);
  backOff.serves(4_500);
  assert.equal(backOff.nextDelayMs(4_600), 100);
  assert.equal(backOff.nextDelayMs(6_000), 100);
  assert.equal(backOff.nextDelayMs(10_999), 100);
  assert.equal(backOff.nextDelayMs(11_000), undefined);
});
