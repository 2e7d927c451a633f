import assert from "node:assert/strict";
import { test } from "node:test";
import * as v from "valibot";
import { Context } from "#pkg/context.ts";
import type { LogFields, Logger } from "#pkg/log.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { Graph, type GraphOptions } from "#pkg/plugin/graph.ts";
import {
  type AnyPlugin,
  definePlugin,
  type PluginType,
  pluginType,
  SkipPlugin,
} from "#pkg/plugin/plugin.ts";
import { all, allOrNone, any, byId, one, optional } from "#pkg/plugin/requirement.ts";

interface Named {
  readonly name: string;
}
const A: PluginType<Named> = pluginType("io.containerd.a.v1");
const B: PluginType<Named> = pluginType("io.containerd.b.v1");
const C: PluginType<unknown> = pluginType("io.containerd.c.v1");

const fixed = { root: "/r", state: "/s", grpcAddress: "/s/g", ttrpcAddress: "/s/g.ttrpc" };
type Options = Partial<GraphOptions> & Pick<GraphOptions, "plugins">;
const start = (options: Options, ctx: Context = Context.background()): Promise<Graph> =>
  Graph.start(ctx, { ...fixed, ...options });

function named(log: string[], name: string): Named & AsyncDisposable {
  log.push(`start ${name}`);
  return {
    name,
    async [Symbol.asyncDispose]() {
      log.push(`stop ${name}`);
    },
  };
}

function lines(): { logger: Logger; lines: string[] } {
  const out: string[] = [];
  const at =
    (level: string) =>
    (message: string, fields: LogFields = {}): void => {
      const subject = [fields["id"] ?? fields["key"]].join();
      out.push(`${level} ${message} ${subject}`);
    };
  const logger: Logger = {
    trace: at("trace"),
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: () => logger,
  };
  return { logger, lines: out };
}

test("start() gives plugins what they need and stop() disposes in reverse, signal first", async () => {
  const log: string[] = [];
  const b = definePlugin({
    type: B,
    id: "b",
    requires: { a: one(A) },
    async init({ ctx, needs, rootDir, stateDir, resources, exports }) {
      ctx.signal.addEventListener("abort", () => log.push("abort"));
      resources.defer(() => void log.push("release b"));
      exports.set("k", "v");
      assert.equal(needs.a.name, "a");
      assert.deepEqual([rootDir, stateDir], ["/r/io.containerd.b.v1.b", "/s/io.containerd.b.v1.b"]);
      return named(log, "b");
    },
  });
  const a = definePlugin({ type: A, id: "a", requires: {}, init: async () => named(log, "a") });
  const graph = await start({ plugins: [b, a] });
  assert.deepEqual(
    graph.records.map((r) => [r.uri, r.state, [...r.exports], r.requires]),
    [
      ["io.containerd.a.v1.a", "started", [], []],
      ["io.containerd.b.v1.b", "started", [["k", "v"]], ["io.containerd.a.v1"]],
    ],
  );
  await graph.stop();
  await graph.stop();
  assert.deepEqual(log, ["start a", "start b", "abort", "stop b", "release b", "stop a"]);
  assert.deepEqual(
    graph.records.map((r) => r.state),
    ["stopped", "stopped"],
  );
});

test("a plugin that skips or fails stays visible and does not hold up the others", async () => {
  const { logger, lines: logged } = lines();
  const log: string[] = [];
  const skips = definePlugin({
    type: A,
    id: "skips",
    requires: {},
    async init({ resources }): Promise<Named> {
      resources.defer(() => void log.push("released"));
      throw new SkipPlugin("kernel lacks it");
    },
  });
  const fails = definePlugin({
    type: A,
    id: "fails",
    requires: {},
    init: async (): Promise<Named> => {
      throw new Error("no such device");
    },
  });
  const works = definePlugin({
    type: A,
    id: "works",
    requires: {},
    init: async () => ({ name: "w" }),
  });
  const gathers = definePlugin({
    type: C,
    id: "gathers",
    requires: { a: all(A), maybe: optional(B), same: optional(A, "fails") },
    async init({ needs }) {
      assert.deepEqual([...needs.a], [["works", { name: "w" }]]);
      assert.equal(needs.maybe, undefined);
      assert.equal(needs.same, undefined);
    },
  });
  const careful = definePlugin({
    type: C,
    id: "careful",
    requires: { a: allOrNone(A) },
    init: async () => undefined,
  });
  await using graph = await start(
    { plugins: [skips, fails, works, gathers, careful] },
    Context.background({ logger }),
  );
  assert.deepEqual(
    graph.records.map((r) => [r.id, r.state, String(r.error)]),
    [
      ["skips", "skipped", "CodedError: kernel lacks it: skip plugin"],
      ["fails", "failed", "Error: no such device"],
      ["works", "started", "undefined"],
      ["gathers", "started", "undefined"],
      [
        "careful",
        "failed",
        "CodedError: required plugin io.containerd.a.v1.fails failed: no such device",
      ],
    ],
  );
  assert.deepEqual(log, ["released"]);
  assert.deepEqual(logged.slice(0, 4), [
    "info loading plugin io.containerd.a.v1.skips",
    "info skip loading plugin io.containerd.a.v1.skips",
    "info loading plugin io.containerd.a.v1.fails",
    "warn failed to load plugin io.containerd.a.v1.fails",
  ]);
});

test("an unmet requirement fails with upstream's words", async () => {
  const ask = definePlugin({
    type: B,
    id: "one",
    requires: { a: one(A) },
    init: async (c) => c.needs.a,
  });
  const ask2 = definePlugin({
    type: B,
    id: "byid",
    requires: { a: byId(A, "x") },
    init: async (c) => c.needs.a,
  });
  {
    await using graph = await start({ plugins: [ask, ask2] });
    assert.deepEqual(
      graph.records.map((r) => r.error instanceof Error && r.error.message),
      [
        "no plugins registered for io.containerd.a.v1: plugin: not found",
        "no plugins registered for io.containerd.a.v1.x: plugin: not found",
      ],
    );
  }
  const a = (id: string): AnyPlugin =>
    definePlugin({ type: A, id, requires: {}, init: async () => ({ name: id }) });
  await using graph = await start({ plugins: [a("x"), a("y"), ask, ask2] });
  assert.deepEqual(
    graph.records.slice(2).map((r) => [r.state, r.error instanceof Error && r.error.message]),
    [
      ["failed", "multiple plugins registered for io.containerd.a.v1"],
      ["started", false],
    ],
  );
});

test("a plugin whose one provider failed says why; one whose provider was skipped is skipped", async () => {
  const bad = (id: string, error: Error): AnyPlugin =>
    definePlugin({
      type: A,
      id,
      requires: {},
      init: async () => {
        throw error;
      },
    });
  const asks = (id: string): AnyPlugin =>
    definePlugin({
      type: B,
      id,
      requires: { a: byId(A, id) },
      init: async () => ({ name: id }),
    });
  await using graph = await start({
    plugins: [bad("f", new Error("boom")), bad("s", new SkipPlugin("")), asks("f"), asks("s")],
  });
  assert.deepEqual(
    graph.records.slice(2).map((r) => [r.state, r.error instanceof Error && r.error.message]),
    [
      ["failed", "required plugin io.containerd.a.v1.f failed: boom"],
      ["skipped", "io.containerd.a.v1.s was skipped: skip plugin"],
    ],
  );
});

test("a required plugin that fails or is missing undoes the start", async () => {
  const log: string[] = [];
  const a = definePlugin({ type: A, id: "a", requires: {}, init: async () => named(log, "a") });
  const bad = definePlugin({
    type: B,
    id: "bad",
    requires: { a: one(A) },
    async init({ ctx }): Promise<Named> {
      ctx.signal.addEventListener("abort", () => log.push("abort"));
      throw new Error("no such device");
    },
  });
  await assert.rejects(start({ plugins: [a, bad], required: ["io.containerd.b.v1.bad"] }), {
    message: "load required plugin io.containerd.b.v1.bad: no such device",
  });
  assert.deepEqual(log, ["start a", "abort", "stop a"]);
  await assert.rejects(start({ plugins: [a], required: ["io.containerd.x.v1.y", "z.v"] }), {
    message: "required plugin [io.containerd.x.v1.y z.v] not included",
  });
  assert.equal(log.length, 3);
  await assert.rejects(
    start({
      plugins: [a],
      required: ["io.containerd.a.v1.a"],
      disabled: ["io.containerd.a.v1.a"],
    }),
    { message: "required plugin [io.containerd.a.v1.a] not included" },
  );
});

test("ready() waits for whom registered readiness; a failure after that stops the start", async () => {
  let done = (): void => {};
  const slow = definePlugin({
    type: A,
    id: "slow",
    requires: {},
    async init({ registerReadiness }) {
      done = registerReadiness();
      return { name: "slow" };
    },
  });
  await using graph = await start({ plugins: [slow] });
  const order: string[] = [];
  const ready = graph.ready().then(() => order.push("ready"));
  await new Promise(setImmediate);
  order.push("before");
  done();
  done();
  await ready;
  assert.deepEqual(order, ["before", "ready"]);

  const breaks = definePlugin({
    type: A,
    id: "breaks",
    requires: {},
    async init({ registerReadiness }): Promise<Named> {
      registerReadiness();
      throw new Error("late");
    },
  });
  await assert.rejects(start({ plugins: [breaks] }), {
    message: "plugin failed after registering readiness io.containerd.a.v1.breaks: late",
  });
});

test("ready() ends when the daemon stops before", async () => {
  const never = definePlugin({
    type: A,
    id: "never",
    requires: {},
    async init({ registerReadiness }) {
      registerReadiness();
      return { name: "never" };
    },
  });
  const graph = await start({ plugins: [never] });
  const ready = graph.ready();
  await Promise.all([assert.rejects(ready, { name: "AbortError" }), graph.stop()]);
});

test("start() under an ended context undoes what had started", async () => {
  const log: string[] = [];
  const controller = new AbortController();
  const a = definePlugin({
    type: A,
    id: "a",
    requires: {},
    async init() {
      controller.abort();
      return named(log, "a");
    },
  });
  const b = definePlugin({ type: B, id: "b", requires: {}, init: async () => named(log, "b") });
  await assert.rejects(
    start({ plugins: [a, b] }, Context.background({ signal: controller.signal })),
    { code: "canceled" },
  );
  assert.deepEqual(log, ["start a", "stop a"]);
});

test("a disposer that throws is logged and the others are still stopped", async () => {
  const { logger, lines: logged } = lines();
  const log: string[] = [];
  const a = definePlugin({ type: A, id: "a", requires: {}, init: async () => named(log, "a") });
  const b = definePlugin({
    type: B,
    id: "b",
    requires: { a: one(A) },
    async init({ resources }) {
      resources.defer(() => {
        throw new Error("stuck");
      });
      return { name: "b" };
    },
  });
  const graph = await start({ plugins: [a, b] }, Context.background({ logger }));
  await graph.stop();
  assert.deepEqual(log, ["start a", "stop a"]);
  assert.equal(logged.at(-1), "error failed to close plugin io.containerd.b.v1.b");
});

test("configuration is the defaults overlaid with the section under the uri", async () => {
  const { logger, lines: logged } = lines();
  const table = v.object({ deep: v.object({ size: v.number(), names: v.array(v.string()) }) });
  const seen: unknown[] = [];
  const a = definePlugin({
    type: C,
    id: "a",
    requires: {},
    config: pluginConfig(table, { deep: { size: 1, names: ["x"] } }),
    init: async ({ config }) => void seen.push(config.deep.size + config.deep.names.length),
  });
  const section = (uri: string): Record<string, unknown> | undefined =>
    uri === "io.containerd.c.v1.a" ? { deep: { size: 5, more: true } } : undefined;
  await using _ = await start({ plugins: [a], section }, Context.background({ logger }));
  assert.deepEqual(seen, [6]);
  assert.equal(logged[0], "warn Ignoring unknown key in TOML for plugin deep more");
  await assert.rejects(start({ plugins: [a], section: () => ({ deep: { size: "5" } }) }), {
    code: "invalid-argument",
    message:
      "invalid configuration of plugin io.containerd.c.v1.a: " +
      'key deep.size: expected number, got "5": invalid argument',
  });
});

test("every section is read before the first plugin starts", async () => {
  const log: string[] = [];
  const a = definePlugin({ type: A, id: "a", requires: {}, init: async () => named(log, "a") });
  const c = definePlugin({
    type: C,
    id: "c",
    requires: { a: one(A) },
    config: pluginConfig(v.object({ size: v.number() }), { size: 1 }),
    init: async () => undefined,
  });
  await assert.rejects(start({ plugins: [a, c], section: () => ({ size: "x" }) }), {
    code: "invalid-argument",
  });
  assert.deepEqual(log, []);
});

test("any() sees every plugin whose turn has been", async () => {
  const a = definePlugin({ type: A, id: "a", requires: {}, init: async () => ({ name: "a" }) });
  const last = definePlugin({
    type: C,
    id: "last",
    requires: { others: any() },
    init: async ({ needs }) => needs.others.map((r) => r.uri),
  });
  await using graph = await start({ plugins: [last, a] });
  assert.deepEqual(graph.records[1]?.instance, ["io.containerd.a.v1.a"]);
  assert.deepEqual(graph.records[1]?.requires, ["*"]);
});

test("a timeout is as configured, else as declared, else a second", async () => {
  const seen: number[] = [];
  const plugin = definePlugin({
    type: C,
    id: "c",
    requires: {},
    timeouts: { "io.containerd.timeout.a": 5000, "io.containerd.timeout.b": 2000 },
    async init({ timeoutMs }) {
      for (const name of ["a", "b", "c"]) seen.push(timeoutMs(`io.containerd.timeout.${name}`));
    },
  });
  const timeouts = new Map([["io.containerd.timeout.a", 0]]);
  await using _ = await start({ plugins: [plugin], timeouts });
  assert.deepEqual(seen, [0, 2000, 1000]);
});
