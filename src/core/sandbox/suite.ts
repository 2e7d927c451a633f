import assert from "node:assert";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { SandboxController, SandboxInput, SandboxStore } from "#core/sandbox/sandbox.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { codeOf, type ErrorCode } from "#pkg/errors.ts";

export interface StoreUnderTest {
  readonly ctx: Context;
  readonly store: SandboxStore;
}

export interface ControllerUnderTest {
  readonly ctx: Context;
  readonly controller: SandboxController;
  /** Of the shim that makes the sandboxes. */
  readonly runtime: string;
  /** Ends the shim of a sandbox as SIGKILL would. */
  killShim(id: string): Promise<void>;
}

export interface SuiteOptions {
  /** What the machine lacks: the reason why all is skipped. */
  readonly needs?: string | undefined;
  /** Go's service of controllers leaves that method out. */
  readonly servesPlatform?: boolean;
}

const skipping = ({ needs }: SuiteOptions): { skip?: string } =>
  needs === undefined ? {} : { skip: needs };

export function sandboxOf(id: string, more: Partial<SandboxInput> = {}): SandboxInput {
  return {
    id,
    labels: {},
    runtime: { name: "io.containerd.runc.v2", options: undefined },
    spec: undefined,
    sandboxer: "shim",
    extensions: {},
    ...more,
  };
}

export function anyOfText(text: string): Any {
  return { typeUrl: "a type", value: new TextEncoder().encode(text) };
}

/** The wire gives bytes as Buffers, which are no equals of plain arrays. */
function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, comparable(v)]));
}

function equal(actual: unknown, expected: unknown): void {
  assert.deepStrictEqual(comparable(actual), comparable(expected));
}

async function rejects(promise: Promise<unknown>, code: ErrorCode, words?: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof Error);
    assert.strictEqual(codeOf(error), code, error.message);
    if (words) assert.match(error.message, words);
    return true;
  });
}

/** What every store of sandboxes promises, in this process or behind its service. */
export function sandboxStoreSuite(
  name: string,
  open: (t: TestContext) => Promise<StoreUnderTest>,
  options: SuiteOptions = {},
): void {
  const run = (what: string, body: (under: StoreUnderTest) => Promise<void>): void => {
    void test(`${name}: ${what}`, skipping(options), async (t) => body(await open(t)));
  };
  run("a sandbox is what was created", async ({ ctx, store }) => {
    const given = sandboxOf("pod", {
      labels: { a: "1", gone: "" },
      runtime: { name: "io.containerd.fake.v1", options: anyOfText("options") },
      spec: anyOfText("{}"),
      extensions: { "with space": { typeUrl: "type with space", value: new Uint8Array([0, 255]) } },
    });
    const created = await store.create(ctx, given);
    assert.ok(created.createdAt > 0n);
    assert.strictEqual(created.updatedAt, created.createdAt);
    const { createdAt, updatedAt } = created;
    equal(created, { ...given, labels: { a: "1" }, createdAt, updatedAt });
    equal(await store.get(ctx, "pod"), created);
  });
  run("create() refuses what is there and what is no id", async ({ ctx, store }) => {
    await store.create(ctx, sandboxOf("pod"));
    await rejects(store.create(ctx, sandboxOf("pod")), "already-exists");
    for (const id of ["", "not/an/id", "x".repeat(77)]) {
      await rejects(store.create(ctx, sandboxOf(id)), "invalid-argument", /invalid sandbox ID/);
    }
  });
  run("update() changes what its fields name", async ({ ctx, store }) => {
    const base = { labels: { a: "1" }, extensions: { e: anyOfText("1") } };
    const { createdAt } = await store.create(ctx, sandboxOf("pod", base));
    const given = sandboxOf("pod", {
      labels: { b: "2" },
      extensions: { f: anyOfText("2") },
      spec: anyOfText("spec"),
      runtime: { name: "another", options: anyOfText("o") },
      sandboxer: "another",
    });
    const update = (...fields: string[]) => store.update(ctx, given, fields);
    equal((await update("labels.b")).labels, { a: "1", b: "2" });
    equal((await update("labels.a")).labels, { b: "2" });
    const extensions = { e: anyOfText("1"), f: anyOfText("2") };
    equal((await update("extensions.f")).extensions, extensions);
    equal((await update("spec")).spec, anyOfText("spec"));
    assert.strictEqual((await update("labels")).runtime.name, "io.containerd.runc.v2");
    assert.strictEqual((await update("runtime")).runtime.name, "another");
    const got = await store.get(ctx, "pod");
    assert.strictEqual(got.createdAt, createdAt);
    assert.ok(got.updatedAt > createdAt);
    assert.strictEqual(got.sandboxer, "shim");
    for (const field of ["sandboxer", "created_at", "label"]) {
      await rejects(update(field), "invalid-argument", /cannot update/);
    }
  });
  run("update() without fields replaces all but the runtime's name", async ({ ctx, store }) => {
    await store.create(ctx, sandboxOf("pod", { labels: { a: "1" }, spec: anyOfText("1") }));
    const updated = await store.update(ctx, sandboxOf("pod", { labels: { z: "9" } }));
    equal([updated.labels, updated.spec], [{ z: "9" }, undefined]);
    const moved = sandboxOf("pod", { runtime: { name: "another", options: undefined } });
    await rejects(store.update(ctx, moved), "invalid-argument", /immutable/);
    await rejects(store.update(ctx, sandboxOf("none")), "not-found");
  });
  run("list() is by id, filtered by id and labels", async ({ ctx, store }) => {
    equal(await store.list(ctx), []);
    await store.create(ctx, sandboxOf("b", { labels: { tier: "web" } }));
    await store.create(ctx, sandboxOf("a"));
    const ids = async (...filters: string[]): Promise<string[]> =>
      (await store.list(ctx, filters)).map((sandbox) => sandbox.id);
    equal(await ids(), ["a", "b"]);
    equal(await ids("id==a"), ["a"]);
    equal(await ids("labels.tier==web", "id==a"), ["a", "b"]);
    equal(await ids("labels.tier"), ["b"]);
    equal(await ids("sandboxer==shim"), []);
    await rejects(ids("id="), "invalid-argument");
  });
  run("a namespace sees its own", async ({ ctx, store }) => {
    await store.create(ctx, sandboxOf("pod"));
    const other = ctx.withNamespace("another");
    await rejects(store.get(other, "pod"), "not-found");
    equal(await store.list(other), []);
    await rejects(store.delete(other, "pod"), "not-found");
  });
  run("delete() removes the record", async ({ ctx, store }) => {
    await store.create(ctx, sandboxOf("pod"));
    await store.delete(ctx, "pod");
    await rejects(store.get(ctx, "pod"), "not-found");
    await rejects(store.delete(ctx, "pod"), "not-found");
    await store.create(ctx, sandboxOf("pod"));
  });
}

/** What every controller promises whose sandboxes are made by the shim of `test/support/sandbox-shim`. */
export function sandboxControllerSuite(
  name: string,
  open: (t: TestContext) => Promise<ControllerUnderTest>,
  options: SuiteOptions = {},
): void {
  const run: RunController = (what, body) => {
    void test(`${name}: ${what}`, skipping(options), async (t) => {
      const under = await open(t);
      const sandbox = (id: string, more: Partial<SandboxInput> = {}): SandboxInput =>
        sandboxOf(id, { runtime: { name: under.runtime, options: undefined }, ...more });
      await body({ ...under, sandbox });
    });
  };
  lifeSuite(run);
  failureSuite(run);
  if (options.servesPlatform === false) return;
  run("platform() is the shim's", async ({ ctx, controller, sandbox }) => {
    await controller.create(ctx, sandbox("pod"));
    assert.deepStrictEqual(await controller.platform(ctx, "pod"), {
      os: "linux",
      architecture: "sparc",
      variant: "v9",
    });
    await controller.shutdown(ctx, "pod");
    await rejects(controller.platform(ctx, "pod"), "not-found");
  });
}

type RunController = (
  what: string,
  body: (
    under: ControllerUnderTest & {
      readonly sandbox: (id: string, more?: Partial<SandboxInput>) => SandboxInput;
    },
  ) => Promise<void>,
) => void;

function lifeSuite(run: RunController): void {
  run("a sandbox is created, started, stopped and shut down", async (under) => {
    const { ctx, controller, sandbox } = under;
    await controller.create(ctx, sandbox("pod", { spec: anyOfText("{}") }), {
      netnsPath: "/net",
      annotations: { a: "1" },
      options: anyOfText("options"),
    });
    assert.strictEqual((await controller.status(ctx, "pod")).state, "created");
    const instance = await controller.start(ctx, "pod");
    assert.ok(instance.pid > 0);
    assert.ok(instance.createdAt !== undefined && instance.createdAt > 0n);
    const status = await controller.status(ctx, "pod", { verbose: true });
    assert.deepStrictEqual([status.sandboxId, status.pid], ["pod", instance.pid]);
    assert.deepStrictEqual([status.state, status.info["labels"]], ["running", '{"a":"1"}']);
    const exited = controller.wait(ctx, "pod");
    await controller.stop(ctx, "pod", { timeoutMs: 3_000 });
    // The shim's exit status is the time it was given.
    const { exitStatus, exitedAt } = await exited;
    assert.strictEqual(exitStatus, 3);
    assert.ok(exitedAt !== undefined && exitedAt > 0n);
    assert.strictEqual((await controller.status(ctx, "pod")).state, "stopped");
    assert.strictEqual((await controller.wait(ctx, "pod")).exitStatus, 3);
    await controller.shutdown(ctx, "pod");
    assert.strictEqual((await controller.status(ctx, "pod")).state, "");
    await controller.create(ctx, sandbox("pod"));
    await controller.shutdown(ctx, "pod");
  });
  run("metrics() are the shim's", async ({ ctx, controller, sandbox }) => {
    await controller.create(ctx, sandbox("pod"));
    const metric = await controller.metrics(ctx, "pod");
    assert.deepStrictEqual(
      [metric?.id, metric?.timestamp, metric?.data?.typeUrl],
      ["pod", 7_000_000_000n, "metrics"],
    );
    await controller.shutdown(ctx, "pod");
  });
  run("update() tells the shim of the fields", async ({ ctx, controller, sandbox }) => {
    await controller.create(ctx, sandbox("pod"));
    const changed = sandbox("pod", { labels: { b: "2" } });
    await controller.update(ctx, "pod", changed, ["labels", "extensions"]);
    const { info } = await controller.status(ctx, "pod", { verbose: true });
    assert.strictEqual(info["labels"], '{"b":"2","fields":"labels,extensions"}');
    await controller.shutdown(ctx, "pod");
  });
}

function failureSuite(run: RunController): void {
  run("an id is taken until it is shut down", async ({ ctx, controller, sandbox }) => {
    await controller.create(ctx, sandbox("pod"));
    await rejects(controller.create(ctx, sandbox("pod")), "already-exists", /already running/);
    await controller.shutdown(ctx, "pod");
  });
  run("what is not there", async ({ ctx, controller }) => {
    await rejects(controller.start(ctx, "none"), "unknown", /unable to find sandbox "none"/);
    await controller.stop(ctx, "none");
    const status = await controller.status(ctx, "none");
    assert.deepStrictEqual([status.sandboxId, status.state, status.pid], ["none", "", 0]);
    assert.ok(status.exitedAt !== undefined && status.exitedAt > 0n);
    await rejects(controller.wait(ctx, "none"), "not-found");
    await rejects(controller.metrics(ctx, "none"), "not-found");
    await rejects(controller.shutdown(ctx, "none"), "not-found");
  });
  run("a refused create leaves nothing", async ({ ctx, controller, sandbox }) => {
    const annotations = { refuse: "create" };
    const words = /failed to create sandbox pod: .*refused to create/;
    const refused = controller.create(ctx, sandbox("pod"), { annotations });
    await rejects(refused, "failed-precondition", words);
    await controller.create(ctx, sandbox("pod"));
    await controller.shutdown(ctx, "pod");
  });
  run("a refused start shuts the sandbox down", async ({ ctx, controller, sandbox }) => {
    await controller.create(ctx, sandbox("pod"), { annotations: { refuse: "start" } });
    await rejects(controller.start(ctx, "pod"), "failed-precondition", /refused to start/);
    await controller.create(ctx, sandbox("pod"));
    await controller.shutdown(ctx, "pod");
  });
  run("a shim that cannot be found", async ({ ctx, controller, sandbox }) => {
    const runtime = { name: "io.containerd.nowhere.v1", options: undefined };
    const words = /failed to start new shim for sandbox pod: .*binary not installed/;
    await rejects(controller.create(ctx, sandbox("pod", { runtime })), "unknown", words);
  });
  run("a shim that dies takes its sandbox with it", async (under) => {
    const { ctx, controller, sandbox } = under;
    await controller.create(ctx, sandbox("pod"));
    await controller.start(ctx, "pod");
    await under.killShim("pod");
    for (
      let tries = 0;
      (await controller.status(ctx, "pod").catch(() => undefined))?.state !== "";
    ) {
      assert.ok(tries++ < 500, "the sandbox is still there");
      await delay(20);
    }
    await controller.create(ctx, sandbox("pod"));
    await controller.shutdown(ctx, "pod");
  });
}
