import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { LaunchedProgram } from "#core/runtime/program.ts";
import { formatOrder, parseOrder, Standby } from "#core/runtime/standby.ts";
import { silentLogger } from "#pkg/log.ts";

test("an order is read as it was written, and nothing is none", () => {
  const args = ["-namespace", "ns", "-id", 'a "b"\n', "supervise"];
  assert.deepEqual(parseOrder(Buffer.from(formatOrder(args)).toString()), args);
  assert.equal(parseOrder(""), undefined);
});

test("what is no order is refused", () => {
  for (const text of ["x", "{}", "[1]", '["a", null]']) {
    assert.throws(() => parseOrder(text), /standby: the order is no /, text);
  }
});

interface Bench {
  readonly standby: Standby;
  readonly programs: Program[];
  isWanted: boolean;
}

class Program implements LaunchedProgram {
  readonly pid = 1;
  readonly announcement = Promise.resolve("");
  readonly #end = Promise.withResolvers<string>();
  readonly exited = this.#end.promise;
  isKilled = false;

  feed(): void {}

  kill(): void {
    this.isKilled = true;
  }

  end(): void {
    this.#end.resolve("exit status 1");
  }
}

function bench(t: TestContext): Bench {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const programs: Program[] = [];
  const launch = (): Program => {
    const program = new Program();
    programs.push(program);
    return program;
  };
  const options = { launch, isWanted: () => made.isWanted, delayMs: 100, logger: silentLogger };
  const made: Bench = { standby: new Standby(options), programs, isWanted: true };
  return made;
}

test("one waits after the delay, however often it is asked for", (t) => {
  const { standby, programs } = bench(t);
  standby.prepare();
  standby.prepare();
  assert.equal(standby.take(), undefined);
  t.mock.timers.tick(100);
  standby.prepare();
  t.mock.timers.tick(100);
  assert.equal(programs.length, 1);
  assert.equal(standby.take(), programs[0]);
  assert.equal(standby.take(), undefined);
  standby.prepare();
  t.mock.timers.tick(100);
  assert.equal(standby.take(), programs[1]);
});

test("none is started that is not wanted when its time has come", (t) => {
  const made = bench(t);
  made.standby.prepare();
  made.isWanted = false;
  t.mock.timers.tick(100);
  made.standby.prepare();
  made.isWanted = true;
  t.mock.timers.tick(1000);
  assert.equal(made.programs.length, 0);
  made.standby.prepare();
  t.mock.timers.tick(100);
  assert.equal(made.programs.length, 1);
});

test("one that ends while it waits is not handed out, and not started again by itself", async (t) => {
  const { standby, programs } = bench(t);
  standby.prepare();
  t.mock.timers.tick(100);
  programs[0]?.end();
  await programs[0]?.exited;
  t.mock.timers.tick(1000);
  assert.equal(standby.take(), undefined);
  assert.equal(programs.length, 1);
  standby.prepare();
  t.mock.timers.tick(100);
  assert.equal(programs.length, 2);
});

test("disposing ends the one that waits, leaves alone what was taken, and starts no more", (t) => {
  const { standby, programs } = bench(t);
  standby.prepare();
  t.mock.timers.tick(100);
  standby.take();
  standby.prepare();
  t.mock.timers.tick(100);
  standby[Symbol.dispose]();
  standby.prepare();
  t.mock.timers.tick(1000);
  assert.deepEqual(
    programs.map(({ isKilled }) => isKilled),
    [false, true],
  );
});
