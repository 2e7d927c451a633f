import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { hasCode } from "#pkg/errors.ts";
import { nextCount, parseRestartPolicy, restartLabels, wantsRestart } from "./policy.ts";

function labels(policy: string, more: { count?: string; stopped?: string } = {}) {
  return {
    [restartLabels.status]: "running",
    [restartLabels.policy]: policy,
    ...(more.count !== undefined && { [restartLabels.count]: more.count }),
    ...(more.stopped !== undefined && { [restartLabels.explicitlyStopped]: more.stopped }),
  };
}

suite("restart policy", () => {
  test("parseRestartPolicy() takes upstream's names", () => {
    assert.deepEqual(parseRestartPolicy(""), { name: "always", retriesMax: 0 });
    assert.deepEqual(parseRestartPolicy("no"), { name: "no", retriesMax: 0 });
    assert.deepEqual(parseRestartPolicy("on-failure"), { name: "on-failure", retriesMax: 0 });
    assert.deepEqual(parseRestartPolicy("on-failure:3"), { name: "on-failure", retriesMax: 3 });
    assert.deepEqual(parseRestartPolicy("unless-stopped").name, "unless-stopped");
  });

  for (const [text, words] of [
    ["always:3", 'restart policy "always" not support max retry count'],
    ["on-failure:x", "invalid max retry count: x"],
    ["on-failure:", "invalid max retry count: "],
    ["on-failure:99999999999999999999", "invalid max retry count: 99999999999999999999"],
    ["sometimes", 'restart policy "sometimes" not supported'],
  ] as const) {
    test(`parseRestartPolicy() refuses ${text}`, () => {
      assert.throws(
        () => parseRestartPolicy(text),
        (error: Error) => hasCode(error, "invalid-argument") && error.message.startsWith(words),
      );
    });
  }

  test("wantsRestart() goes by policy, exit status and count", () => {
    assert.equal(wantsRestart(labels("always"), 0), true);
    assert.equal(wantsRestart(labels(""), 3), true);
    assert.equal(wantsRestart(labels("no"), 3), false);
    assert.equal(wantsRestart(labels("unless-stopped"), 0), true);
    assert.equal(wantsRestart(labels("on-failure"), 0), false);
    assert.equal(wantsRestart(labels("on-failure"), 1), true);
    assert.equal(wantsRestart(labels("on-failure:2", { count: "1" }), 1), true);
    assert.equal(wantsRestart(labels("on-failure:2", { count: "2" }), 1), false);
    assert.throws(() => wantsRestart(labels("on-failure:2", { count: "x" }), 1));
  });

  test("wantsRestart() leaves alone what was explicitly stopped, whatever the policy", () => {
    for (const policy of ["", "always", "on-failure", "unless-stopped"]) {
      assert.equal(wantsRestart(labels(policy, { stopped: "true" }), 1), false);
      assert.equal(wantsRestart(labels(policy, { stopped: "T" }), 1), false);
      assert.equal(wantsRestart(labels(policy, { stopped: "false" }), 1), true);
      assert.equal(wantsRestart(labels(policy, { stopped: "yes" }), 1), true);
    }
  });

  test("nextCount() begins anew where the count does not parse", () => {
    assert.equal(nextCount(labels("always")), 1);
    assert.equal(nextCount(labels("always", { count: "41" })), 42);
    assert.equal(nextCount(labels("always", { count: "many" })), 1);
  });
});
