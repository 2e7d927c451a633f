import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { BlockingPool, type BlockingThread } from "#pkg/sys/blocking.ts";
import { type BlockingName, type BlockingReply, runRequest } from "#pkg/sys/blocking-message.ts";
import { AT, LOCK, O } from "#pkg/sys/constants.ts";
import { FakeSyscalls } from "#pkg/sys/fake.ts";
import { linux } from "#pkg/sys/linux.ts";

const ctx = Context.background();

/** A thread whose calls come back when the test says so. */
class FakeThread implements BlockingThread {
  readonly requests: { name: BlockingName; args: readonly unknown[] }[] = [];
  terminated = false;
  #message: (reply: BlockingReply) => void = () => {};
  #exit: (code: number) => void = () => {};

  postMessage(message: { name: BlockingName; args: readonly unknown[] }): void {
    this.requests.push(message);
  }
  on(event: "message", listener: (reply: BlockingReply) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "exit", listener: (code: number) => void): unknown;
  on(event: string, listener: (argument: never) => void): this {
    // -- the overloads above say which listener goes with which event
    if (event === "message") this.#message = listener as (reply: BlockingReply) => void;
    if (event === "exit") this.#exit = listener as (code: number) => void;
    return this;
  }
  ref(): void {}
  unref(): void {}
  terminate(): Promise<number> {
    this.terminated = true;
    return Promise.resolve(0);
  }

  reply(value: unknown): void {
    this.#message({ ok: true, value });
  }
  die(): void {
    this.#exit(1);
  }
}

interface Rig {
  readonly pool: BlockingPool;
  readonly threads: FakeThread[];
  readonly fake: FakeSyscalls;
  readonly thread: (index: number) => FakeThread;
}

function rig(options: { workersMax?: number; stuckMax?: number; queueMax?: number } = {}): Rig {
  const threads: FakeThread[] = [];
  const fake = new FakeSyscalls();
  const startThread = (): FakeThread => {
    const thread = new FakeThread();
    threads.push(thread);
    return thread;
  };
  const pool = new BlockingPool({ sys: fake.sys, startThread, ...options });
  const thread = (index: number): FakeThread => {
    const found = threads[index];
    assert.ok(found, `thread ${index} was started`);
    return found;
  };
  return { pool, threads, fake, thread };
}

function stoppable(): { readonly ctx: Context; readonly stop: () => void } {
  const controller = new AbortController();
  return { ctx: ctx.withSignal(controller.signal), stop: () => controller.abort() };
}

function directory(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "sys-blocking-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

test("a call on a thread takes bytes as path and gives what the kernel says", async (t) => {
  const path = Buffer.concat([Buffer.from(`${directory(t)}/`), Buffer.from([0xff, 0xfe])]);
  writeFileSync(path, "abc");
  await using pool = new BlockingPool({ sys: linux });
  const stat = await pool.run(ctx, "fstatat", AT.FDCWD, path, 0);
  assert.deepEqual(stat, linux.fstatat(AT.FDCWD, path, 0));
  await assert.rejects(pool.run(ctx, "statfs", Buffer.from("/nonexistent/x")), {
    name: "SyscallError",
    errno: "ENOENT",
    syscall: "statfs",
    path: Buffer.from("/nonexistent/x"),
    message: "statfs /nonexistent/x: no such file or directory",
  });
});

test("a call that hangs is given up, others go on, its thread comes back", async (t) => {
  const path = join(directory(t), "lock");
  writeFileSync(path, "");
  const [holder, other] = [openSync(path, O.RDONLY), openSync(path, O.RDONLY)];
  linux.flock(holder, LOCK.EX);
  await using pool = new BlockingPool({ sys: linux, timeoutMs: 1000 });
  await assert.rejects(pool.run(ctx, "flock", other, LOCK.EX), (error) =>
    hasCode(error, "deadline-exceeded"),
  );
  assert.deepEqual(
    pool.stuckCalls().map((call) => call.name),
    ["flock"],
  );
  await pool.run(ctx, "statfs", path);
  closeSync(holder);
  while (pool.stuckCalls().length > 0) await pool.run(ctx, "statfs", path);
  closeSync(other);
});

test("no more threads work at once than allowed; the rest waits its turn", async () => {
  const { pool, threads, thread } = rig({ workersMax: 2 });
  const calls = [1, 2, 3].map((n) => pool.run(ctx, "umount2", `/m${n}`, 0));
  assert.equal(threads.length, 2);
  thread(0).reply(undefined);
  assert.deepEqual(
    thread(0).requests.map((request) => request.args),
    [
      ["/m1", 0],
      ["/m3", 0],
    ],
  );
  thread(1).reply(undefined);
  thread(0).reply(undefined);
  await Promise.all(calls);
  assert.equal(threads.length, 2);
});

test("a queue that is full refuses", async () => {
  const { pool, thread } = rig({ workersMax: 1, queueMax: 1 });
  const calls = [pool.run(ctx, "umount2", "/a", 0), pool.run(ctx, "umount2", "/b", 0)];
  await assert.rejects(pool.run(ctx, "umount2", "/c", 0), (error) =>
    hasCode(error, "resource-exhausted"),
  );
  thread(0).reply(undefined);
  thread(0).reply(undefined);
  await Promise.all(calls);
});

test("a stuck thread is replaced, until too many are stuck", async () => {
  const { pool, threads, thread } = rig({ workersMax: 1, stuckMax: 2 });
  for (const path of ["/a", "/b"]) {
    const { ctx: bounded, stop } = stoppable();
    const call = pool.run(bounded, "umount2", path, 0);
    stop();
    await assert.rejects(call, (error) => hasCode(error, "canceled"));
  }
  assert.equal(threads.length, 2);
  await assert.rejects(pool.run(ctx, "umount2", "/c", 0), {
    code: "unavailable",
    message: "umount2: 2 calls are stuck in the kernel (umount2 /a, umount2 /b): unavailable",
  });
  thread(0).reply(undefined);
  const again = pool.run(ctx, "umount2", "/c", 0);
  thread(0).reply(undefined);
  await again;
});

test("a call that waits for a thread and is given up is never made", async () => {
  const { pool, thread, fake } = rig({ workersMax: 1 });
  const first = pool.run(ctx, "umount2", "/a", 0);
  const { ctx: bounded, stop } = stoppable();
  const second = pool.run(bounded, "fsync", 5);
  assert.equal(fake.openFds.size, 1);
  stop();
  await assert.rejects(second, (error) => hasCode(error, "canceled"));
  assert.equal(fake.openFds.size, 0);
  thread(0).reply(undefined);
  await first;
  assert.equal(thread(0).requests.length, 1);
});

test("a descriptor's duplicate is closed when the kernel lets go of it", async () => {
  const { pool, thread, fake } = rig();
  const { ctx: bounded, stop } = stoppable();
  const call = pool.run(bounded, "syncfs", 5);
  const [duplicate] = fake.openFds;
  assert.deepEqual(thread(0).requests, [{ name: "syncfs", args: [duplicate] }]);
  stop();
  await assert.rejects(call, (error) => hasCode(error, "canceled"));
  assert.equal(fake.openFds.size, 1);
  thread(0).reply(undefined);
  assert.equal(fake.openFds.size, 0);
});

test("what is opened for a caller who has given up is closed", async () => {
  const { pool, thread, fake } = rig();
  const { ctx: bounded, stop } = stoppable();
  const call = pool.run(bounded, "openat", AT.FDCWD, "/x", O.RDONLY);
  stop();
  await assert.rejects(call, (error) => hasCode(error, "canceled"));
  thread(0).reply(77);
  assert.deepEqual(fake.callsOf("close"), [[77]]);
});

test("the death of a thread fails its call, and the next gets another", async () => {
  const { pool, thread, fake } = rig({ workersMax: 1 });
  const [first, second] = [pool.run(ctx, "syncfs", 5), pool.run(ctx, "umount2", "/b", 0)];
  thread(0).die();
  await assert.rejects(first, /syncfs: thread ended with 1/);
  assert.equal(fake.openFds.size, 0);
  thread(1).reply(undefined);
  await second;
});

test("a thread without work ends after a while", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { pool, thread, threads } = rig();
  const call = pool.run(ctx, "umount2", "/a", 0);
  thread(0).reply(undefined);
  await call;
  t.mock.timers.tick(9_999);
  assert.equal(thread(0).terminated, false);
  t.mock.timers.tick(1);
  assert.equal(thread(0).terminated, true);
  const next = pool.run(ctx, "umount2", "/a", 0);
  assert.equal(threads.length, 2);
  thread(1).reply(undefined);
  await next;
});

test("close() refuses who waits, ends free threads and takes no more calls", async () => {
  const { pool, thread } = rig({ workersMax: 2 });
  const free = pool.run(ctx, "umount2", "/a", 0);
  const running = pool.run(ctx, "umount2", "/b", 0);
  thread(0).reply(undefined);
  await free;
  const refused = assert.rejects(running, (error) => hasCode(error, "unavailable"));
  await pool.close();
  await refused;
  assert.deepEqual([thread(0).terminated, thread(1).terminated], [true, false]);
  await assert.rejects(pool.run(ctx, "umount2", "/c", 0), (error) => hasCode(error, "unavailable"));
  thread(1).reply(undefined);
  assert.equal(thread(1).terminated, true);
});

test("a worker makes no calls but those listed", () => {
  const fake = new FakeSyscalls();
  const reply = runRequest(fake.sys, { name: "kill", args: [1, 9] });
  assert.equal(reply.ok, false);
  assert.deepEqual(fake.calls, []);
});
