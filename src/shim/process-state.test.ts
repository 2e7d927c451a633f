import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { codeOf, messageOf } from "#pkg/errors.ts";
import {
  type Action,
  assertAllowed,
  exitOf,
  type ProcessEvent,
  type ProcessState,
  pidOf,
  transition,
} from "./process-state.ts";

const exit = { pid: 7, status: 3, at: 1n };
const states: Record<ProcessState["status"], ProcessState> = {
  created: { status: "created", pid: 7 },
  running: { status: "running", pid: 7 },
  pausing: { status: "pausing", pid: 7 },
  paused: { status: "paused", pid: 7 },
  stopped: { status: "stopped", exit },
  deleted: { status: "deleted", exit },
};

function refusal(state: ProcessState, action: Action): [string, string] | undefined {
  try {
    assertAllowed(state, action);
    return undefined;
  } catch (error) {
    return [codeOf(error), messageOf(error)];
  }
}

suite("process state", () => {
  test("assertAllowed() speaks upstream's words", () => {
    const cases: [ProcessState["status"], Action, string, string][] = [
      ["running", "delete", "unknown", "cannot delete a running process"],
      ["running", "start", "unknown", "cannot start a running process"],
      ["created", "pause", "unknown", "cannot pause task in created state"],
      ["paused", "exec", "unknown", "cannot exec in a paused state"],
      ["stopped", "update", "unknown", "cannot update a stopped container"],
      ["stopped", "start", "unknown", "cannot start a stopped process"],
      ["deleted", "delete", "not-found", "cannot delete a deleted process: not found"],
      ["deleted", "kill", "not-found", "cannot kill a deleted process: not found"],
    ];
    for (const [status, action, code, message] of cases) {
      assert.deepEqual(refusal(states[status], action), [code, message]);
    }
  });

  test("assertAllowed() lets the ordinary life of a process pass", () => {
    assert.equal(refusal(states.created, "start"), undefined);
    assert.equal(refusal(states.created, "delete"), undefined);
    assert.equal(refusal(states.created, "exec"), undefined);
    assert.equal(refusal(states.running, "pause"), undefined);
    assert.equal(refusal(states.paused, "resume"), undefined);
    assert.equal(refusal(states.stopped, "delete"), undefined);
  });

  test("transition() never leaves deleted and never changes a first exit", () => {
    const event = fc.oneof(
      fc.constantFrom<ProcessEvent>(
        { type: "pausing" },
        { type: "pause-failed" },
        { type: "paused" },
        { type: "resumed" },
        { type: "deleted" },
      ),
      fc.nat().map((pid): ProcessEvent => ({ type: "started", pid })),
      fc.nat(255).map((status): ProcessEvent => ({ type: "exited", exit: { ...exit, status } })),
    );
    fc.assert(
      fc.property(fc.array(event), (events) => {
        let state: ProcessState = states.created;
        for (const each of events) {
          const before = state;
          try {
            state = transition(state, each);
          } catch (error) {
            assert.equal(codeOf(error), "internal");
          }
          if (exitOf(before)) assert.equal(exitOf(state), exitOf(before));
          if (before.status === "deleted") assert.equal(state, before);
        }
      }),
    );
  });

  test("pidOf() keeps the pid of a process that has ended", () => {
    assert.equal(pidOf(states.stopped), 7);
    assert.equal(pidOf({ status: "deleted", exit: undefined }), 0);
  });
});
