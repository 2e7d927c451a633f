import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Task } from "#api/runtime/task/v3/shim_pb.ts";
import { type BootstrapResult, legacyBootstrap } from "#core/runtime/bootstrap.ts";
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

  supervisor(lingerMs = 60_000): Supervisor {
    return new Supervisor(
      { namespace: "ns", id: "ns", cgroup: "" },
      {
        lifetime: ctx,
        lingerMs,
        dial: dialShim,
        keep: () => this.keep(),
        launch: () => this.#launch(),
        events: {
          onReplaced: () => this.events.push("replaced"),
          onGivenUp: (error) => this.events.push(`given up: ${String(error)}`),
          onEnded: () => this.events.push("ended"),
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

  async #launch(): Promise<BootstrapResult> {
    this.launches += 1;
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
            setImmediate(() => void this.die());
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

test("one that dies again and again is given up", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor();
  const one = link(bench, supervisor);
  for (let time = 1; !bench.events.some((event) => event.startsWith("given up")); time++) {
    assert.ok(time <= 6, "it was started more often than it may");
    const before = bench.events.length;
    assert.ok((await servedBy(one)) > 0);
    await bench.die();
    await eventually(() => bench.events.length > before);
  }
  assert.match(bench.events.at(-1) ?? "", /given up: Error: died 6 times in a minute/);
  await supervisor.close();
});

test("one that cannot be replaced is given up with the reason", async () => {
  await using bench = await Bench.open();
  const supervisor = bench.supervisor();
  assert.equal(await servedBy(link(bench, supervisor)), 1);
  bench.failures = [new Error("first"), new Error("second"), new Error("third")];
  await bench.die();
  await eventually(() => bench.events.length > 0);
  assert.deepEqual(bench.events, ["given up: Error: third"]);
  await supervisor.close();
});

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
