import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Task } from "#api/runtime/task/v3/shim_pb.ts";
import { type BootstrapResult, legacyBootstrap } from "#core/runtime/bootstrap.ts";
import type { HeldProcess } from "#core/runtime/descriptor-keeper.ts";
import type { Keeper } from "#core/runtime/kept-descriptors.ts";
import { dialShim } from "#core/runtime/shim-connection.ts";
import { Supervisor, SupervisorLink, type SupervisorOptions } from "#core/runtime/supervisor.ts";
import { Context } from "#pkg/context.ts";
import { CodedError, codeOf, unavailable } from "#pkg/errors.ts";
import { serve } from "#pkg/rpc/service.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";

const ctx = Context.background();

/** Supervisors in this process, one after the other at the same address. */
class Bench implements AsyncDisposable {
  readonly events: string[] = [];
  launches = 0;
  shutdowns = 0;
  pids = 0;
  /** Thrown by the next launches, one each. */
  failures: Error[] = [];
  /** What the launches were given, as ids. */
  inherited: string[][] = [];
  endsWhenTold = true;
  /** What is kept of the next supervisors. */
  keep: () => ReturnType<SupervisorOptions["keep"]> = async () => undefined;
  /** Answers `Pids`, which stands for any call. */
  onPids: (serial: number) => Promise<void> = async () => {};
  #server: TtrpcServer | undefined;
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(): Promise<Bench> {
    return new Bench(await mkdtemp(join(tmpdir(), "supervisor-")));
  }

  supervisor(
    lingerMs = 60_000,
    options: Pick<SupervisorOptions, "backOff" | "endTimeoutMs"> = {},
  ): Supervisor {
    return new Supervisor(
      { namespace: "ns", id: "ns", cgroup: "" },
      {
        lifetime: ctx,
        lingerMs,
        dial: dialShim,
        keep: () => this.keep(),
        launch: (_ctx, kept) => this.#launch(kept),
        ...options,
        events: {
          onReplaced: () => this.events.push("replaced"),
          onGivenUp: (error) => this.events.push(`given up: ${String(error)}`),
          onEnded: ({ isGone }) => this.events.push(isGone ? "ended" : "left"),
        },
      },
    );
  }

  get bootstrap(): BootstrapResult {
    return { ...legacyBootstrap(`unix://${join(this.#dir, "s")}`), version: 3 };
  }

  async die(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    await server?.close({ timeoutMs: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.die();
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #launch(kept: readonly HeldProcess[]): Promise<BootstrapResult> {
    this.launches += 1;
    this.inherited.push(kept.map(({ containerId }) => containerId));
    const failure = this.failures.shift();
    if (failure) throw failure;
    await this.serve();
    return this.bootstrap;
  }

  async serve(): Promise<void> {
    await this.die();
    const serial = this.launches;
    this.#server = new TtrpcServer({
      services: [
        serve(Task, {
          pids: async () => {
            this.pids += 1;
            await this.onPids(serial);
            return { processes: [{ pid: serial }] };
          },
          shutdown: async () => {
            this.shutdowns += 1;
            if (this.endsWhenTold) setImmediate(() => void this.die());
            return {};
          },
        }),
      ],
    });
    await this.#server.listen(join(this.#dir, "s"), { mode: 0o600 });
  }
}

function link(bench: Bench, supervisor: Supervisor, id = "c1"): SupervisorLink {
  supervisor.join(id);
  return new SupervisorLink(supervisor, id, bench.bootstrap);
}

/** The serial of the supervisor that answered. */
async function servedBy(of: SupervisorLink, how: "call" | "ask" = "ask"): Promise<number> {
  const [process] = await of[how](ctx, (tasks) => tasks.pids(ctx, "c1"));
  return process?.pid ?? 0;
}

async function eventually(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, "it never came to be");
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

test("callers at the same time share one start", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor();
  const one = link(bench, supervisor);
  assert.deepEqual(await Promise.all([servedBy(one), servedBy(one), servedBy(one)]), [1, 1, 1]);
  assert.equal(bench.launches, 1);
  await supervisor.close();
});

test("a start that fails is its callers' error, and the next call tries again", async () => {
  await using bench = await Bench.open();
  bench.failures = [new CodedError("unknown", "no node here")];
  const supervisor = bench.supervisor();
  const one = link(bench, supervisor);
  await assert.rejects(servedBy(one), /no node here/);
  assert.equal(await servedBy(one), 2);
  await supervisor.close();
});

test("a caller that leaves does not stop a start that another waits for", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor();
  const one = link(bench, supervisor);
  const impatient = new AbortController();
  const leaving = supervisor.serving(ctx.withSignal(impatient.signal));
  const staying = servedBy(one);
  impatient.abort();
  await assert.rejects(leaving, (error: Error) => codeOf(error) === "canceled");
  assert.equal(await staying, 1);
  await supervisor.close();
});

test("one that dies is replaced; asking is repeated, calling is not", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor();
  const one = link(bench, supervisor);
  const reached = Promise.withResolvers<void>();
  let waiting = 0;
  bench.onPids = async (serial) => {
    if (serial > 1) return;
    waiting += 1;
    if (waiting === 2) reached.resolve();
    await new Promise(() => {});
  };
  const asked = servedBy(one, "ask");
  const called = assert.rejects(servedBy(one, "call"), /ttrpc: closed/);
  await reached.promise;
  await bench.die();
  await called;
  assert.equal(await asked, 2);
  await eventually(() => bench.events.includes("replaced"));
  assert.deepEqual(bench.events, ["replaced"]);
  await supervisor.close();
});

test("one that is about to end has done nothing: the next one is called", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor();
  const one = link(bench, supervisor);
  bench.onPids = async (serial) => {
    if (serial > 1) return;
    setImmediate(() => void bench.die());
    throw unavailable("supervisor is shutting down");
  };
  assert.equal(await servedBy(one, "call"), 2);
  await supervisor.close();
});

const eager = { delaysMs: [0], steadyMs: 60_000, giveUpMs: 60_000 } as const;

test("one that dies again and again is started again and again", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor(0, { backOff: eager });
  const one = link(bench, supervisor);
  for (let time = 1; time <= 20; time++) {
    assert.equal(await servedBy(one), time);
    await bench.die();
    await eventually(() => bench.events.length === time);
  }
  assert.deepEqual(new Set(bench.events), new Set(["replaced"]));
  await supervisor.close();
});

test("callers wait while a start is put off, and start none of their own", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor(0, { backOff: { ...eager, delaysMs: [300] } });
  const one = link(bench, supervisor);
  assert.equal(await servedBy(one), 1);
  const before = performance.now();
  await bench.die();
  await assert.rejects(supervisor.serving(ctx.withTimeout(20)), (error: Error) => {
    return codeOf(error) === "deadline-exceeded";
  });
  assert.equal(bench.launches, 1);
  assert.deepEqual(await Promise.all([servedBy(one), servedBy(one)]), [2, 2]);
  assert.ok(performance.now() - before >= 290);
  await supervisor.close();
});

test("when the last user leaves while a start is put off there is no start", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor(0, { backOff: { ...eager, delaysMs: [50] } });
  const one = link(bench, supervisor);
  const { transport } = await supervisor.serving(ctx);
  await bench.die();
  await transport.closed;
  await one.shutdown();
  assert.deepEqual(bench.events, ["ended"]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(bench.launches, 1);
  assert.deepEqual(bench.events, ["ended"]);
  await supervisor.close();
});

test("one that cannot be started for long is given up with the reason", async () => {
  await using bench = await Bench.open();
  const backOff = { delaysMs: [20], steadyMs: 60_000, giveUpMs: 100 } as const;
  const supervisor = bench.supervisor(0, { backOff });
  assert.equal(await servedBy(link(bench, supervisor)), 1);
  bench.failures = Array.from({ length: 100 }, (_, n) => new Error(`failure ${n}`));
  const before = performance.now();
  await bench.die();
  await eventually(() => bench.events.length > 0);
  assert.ok(performance.now() - before >= 100);
  assert.match(bench.events.join(), /^given up: Error: failure \d+$/);
  assert.ok(bench.launches > 2);
  await supervisor.close();
});

test("a successor that cannot be started for a while is started later", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor(0, { backOff: eager });
  const one = link(bench, supervisor);
  assert.equal(await servedBy(one), 1);
  bench.failures = [new Error("first"), new Error("second"), new Error("third")];
  await bench.die();
  await eventually(() => bench.events.includes("replaced"));
  assert.equal(await servedBy(one), 5);
  await supervisor.close();
});

test("one that does not end although it was told to is left, not forgotten", async () => {
  await using bench = await Bench.open();
  bench.endsWhenTold = false;
  const supervisor = bench.supervisor(0, { endTimeoutMs: 50 });
  const one = link(bench, supervisor);
  assert.equal(await servedBy(one), 1);
  await one.shutdown();
  await eventually(() => bench.events.length > 0);
  assert.deepEqual(bench.events, ["left"]);
  await supervisor.close();
});

/** Holds one process of that name. */
function keeperOf(id: string, complete: Promise<boolean>): Keeper & { isReleased: boolean } {
  return {
    complete,
    isReleased: false,
    processes: () => [{ containerId: id, execId: "", pid: 1, ends: new Map() }],
    [Symbol.dispose]() {
      this.isReleased = true;
    },
  };
}

for (const [what, isComplete, inherited] of [
  ["in the turn in which it was complete: nothing of the one before it", true, ["new"]],
  ["in the middle of it: also what the one before it had", false, ["new", "old"]],
] as const) {
  test(`a successor inherits from one that died when it handed over, ${what}`, async () => {
    await using bench = await Bench.open();
    const supervisor = bench.supervisor(0, { backOff: eager });
    const one = link(bench, supervisor);
    const old = keeperOf("old", Promise.resolve(true));
    bench.keep = async () => old;
    assert.equal(await servedBy(one), 1);
    const complete = Promise.withResolvers<boolean>();
    bench.keep = async () => keeperOf("new", complete.promise);
    await bench.die();
    const { transport } = await supervisor.serving(ctx);
    await bench.die();
    await transport.closed;
    const replaced = supervisor.serving(ctx);
    // What it sent last is read a little after its death is seen.
    await new Promise((resolve) => setTimeout(resolve, 20));
    complete.resolve(isComplete);
    await replaced;
    assert.deepEqual(bench.inherited, [[], ["old"], [...inherited]]);
    assert.equal(old.isReleased, isComplete);
    await supervisor.close();
    assert.equal(old.isReleased, true);
  });
}

test("the last user's going ends it after a while, unless another comes", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor(0);
  const one = link(bench, supervisor, "c1");
  const two = link(bench, supervisor, "c2");
  assert.equal(await servedBy(one), 1);
  await one.shutdown();
  assert.equal(bench.shutdowns, 0);
  await two.shutdown();
  const three = link(bench, supervisor, "c3");
  assert.equal(await servedBy(three), 1);
  await three.shutdown();
  await eventually(() => bench.events.includes("ended"));
  assert.equal(bench.shutdowns, 1);
  // Ended is not the end: a new user starts another.
  assert.equal(await servedBy(link(bench, supervisor, "c4")), 2);
  await supervisor.close();
});

test("close() ends one without users and leaves one with users alone", async () => {
  await using bench = await Bench.open();
  const used = bench.supervisor();
  assert.equal(await servedBy(link(bench, used)), 1);
  await used.close();
  assert.equal(bench.shutdowns, 0);
  const unused = bench.supervisor();
  const one = link(bench, unused);
  assert.equal(await servedBy(one), 2);
  await one.close();
  await unused.close();
  assert.equal(bench.shutdowns, 1);
  assert.deepEqual(bench.events, ["ended"]);
  await assert.rejects(servedBy(one), /the daemon is stopping/);
});

test("resume() goes on trying where no successor can be started at once", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor(0, { backOff: eager });
  const one = link(bench, supervisor);
  bench.failures = [new Error("first"), new Error("second")];
  await assert.rejects(supervisor.resume(ctx, bench.bootstrap), /first/);
  await eventually(() => bench.events.includes("replaced"));
  assert.equal(await servedBy(one), 3);
  await supervisor.close();
});

test("resume() goes on with the one that serves, and starts another where none does", async () => {
  await using bench = await Bench.open();
  await bench.serve();
  const found = bench.supervisor();
  const one = link(bench, found);
  await found.resume(ctx, bench.bootstrap);
  assert.equal(await servedBy(one), 0);
  assert.equal(bench.launches, 0);
  await found.close();
  await bench.die();
  const lost = bench.supervisor();
  const two = link(bench, lost);
  await lost.resume(ctx, bench.bootstrap);
  assert.equal(await servedBy(two), 1);
  await lost.close();
});

for (const [what, keep] of [
  ["hands nothing over", async () => undefined],
  [
    "cannot hand over",
    async () => {
      throw new Error("no daemon can connect");
    },
  ],
] as const) {
  test(`what was kept of one goes when its successor ${what}`, async () => {
    await using bench = await Bench.open();
    let isReleased = false;
    bench.keep = async () => ({
      complete: Promise.resolve(true),
      processes: () => [],
      [Symbol.dispose]: () => {
        isReleased = true;
      },
    });
    const supervisor = bench.supervisor();
    const one = link(bench, supervisor);
    assert.equal(await servedBy(one), 1);
    bench.keep = keep;
    await bench.die();
    await eventually(() => bench.events.includes("replaced"));
    assert.equal(isReleased, false);
    await eventually(() => isReleased);
    assert.equal(await servedBy(one), 2);
    await supervisor.close();
  });
}
