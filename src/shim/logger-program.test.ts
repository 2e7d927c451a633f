import assert from "node:assert/strict";
import { mock, suite, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { silentLogger } from "#pkg/log.ts";
import { linux } from "#pkg/sys/linux.ts";
import type { Children, SpawnRequest } from "./children.ts";
import { LoggerProgram } from "./logger-program.ts";

/** A program that is ready at once and ends when it is told to by one of `fatal`. */
async function startFake(fatal: readonly number[]) {
  const { promise: exited, resolve } = Promise.withResolvers<number>();
  const sent: number[] = [];
  const spawned: SpawnRequest[] = [];
  const sys = {
    ...linux,
    kill: (_pid: number, signal: number) => {
      sent.push(signal);
      if (fatal.includes(signal)) resolve(128 + signal);
    },
  };
  const children: Pick<Children, "spawn"> = {
    spawn: (request) => {
      spawned.push(request);
      return { pid: 77, exited };
    },
  };
  const program = await LoggerProgram.start(
    { kind: "binary", path: "/logger", args: ["key", "value"], readiness: "close" },
    [10, 11],
    {
      sys,
      logger: silentLogger,
      children: children as Children, // -- it only spawns
      containerId: "c1",
      namespace: "n1",
    },
  );
  return { program, sent, spawned };
}

suite("LoggerProgram", () => {
  test("start() gives it nothing but its names, its arguments and three descriptors", async () => {
    const { spawned } = await startFake([15]);
    const [request] = spawned;
    assert.deepEqual(request?.env, { CONTAINER_ID: "c1", CONTAINER_NAMESPACE: "n1" });
    assert.deepEqual(request?.args, ["key", "value"]);
    assert.deepEqual(request?.fds.slice(3, 5), [10, 11]);
    assert.equal(request?.fds.length, 6);
  });

  test("terminate() asks first, and kills what is still there after 12 s", async () => {
    const { program, sent } = await startFake([9]);
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const ended = program.terminate();
      mock.timers.tick(0);
      await turn();
      assert.deepEqual(sent, [15]);
      mock.timers.tick(11_999);
      await turn();
      assert.deepEqual(sent, [15]);
      mock.timers.tick(1);
      await ended;
      assert.deepEqual(sent, [15, 9]);
    } finally {
      mock.timers.reset();
    }
  });

  test("terminate() leaves alone what goes when it is asked, or has gone", async () => {
    const { program, sent } = await startFake([15]);
    await program.terminate();
    await program.terminate();
    assert.deepEqual(sent, [15]);
  });
});
