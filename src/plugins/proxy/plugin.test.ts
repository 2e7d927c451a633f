import assert from "node:assert/strict";
import { test } from "node:test";
import { Context } from "#pkg/context.ts";
import { messageOf } from "#pkg/errors.ts";
import { formatText } from "#pkg/log-format.ts";
import { LogWriter } from "#pkg/log-writer.ts";
import { Graph } from "#pkg/plugin/graph.ts";
import { type ProxyPluginOptions, proxyPlugins } from "#plugins/proxy/plugin.ts";

function entry(type: string, more: Partial<ProxyPluginOptions> = {}): ProxyPluginOptions {
  return { type, address: "/none", platform: "", exports: {}, capabilities: [], ...more };
}

async function start(entries: Readonly<Record<string, ProxyPluginOptions>>) {
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const log = new LogWriter({ level: "warning", format: formatText, write });
  await using graph = await Graph.start(Context.background({ logger: log.root }), {
    plugins: proxyPlugins(entries, log.root),
    root: "/none",
    state: "/none",
    grpcAddress: "",
    ttrpcAddress: "",
  });
  const rows = graph.records.map((r) => ({
    uri: r.uri,
    state: r.state,
    error: r.error === undefined ? "" : messageOf(r.error),
    platforms: r.platforms,
    exports: Object.fromEntries(r.exports),
    capabilities: r.capabilities,
  }));
  return { rows, log: lines.join("") };
}

test("proxyPlugins() starts an entry of each type under its name, nobody listening", async () => {
  const more = { exports: { root: "/r" }, capabilities: ["rebase"], platform: "linux/riscv64" };
  const { rows, log } = await start({
    a: entry("snapshot", more),
    b: entry("content"),
    c: entry("diff"),
    d: entry("io.containerd.snapshotter.v1", { address: "unix:///none" }),
    e: entry("sandbox"),
  });
  assert.deepEqual(
    rows.map(({ uri, state }) => [uri, state]),
    [
      ["io.containerd.snapshotter.v1.a", "started"],
      ["io.containerd.content.v1.b", "started"],
      ["io.containerd.differ.v1.c", "started"],
      ["io.containerd.snapshotter.v1.d", "started"],
      ["io.containerd.sandbox.controller.v1.e", "started"],
    ],
  );
  const [a, b] = rows;
  assert.deepEqual(a?.exports, { root: "/r", address: "/none" });
  assert.deepEqual(a?.capabilities, ["rebase"]);
  assert.deepEqual(
    a?.platforms.map(({ os, architecture }) => `${os}/${architecture}`),
    ["linux/riscv64"],
  );
  assert.equal(b?.platforms.length, 1);
  assert.equal(log, "");
});

test("proxyPlugins() warns of types it has no proxy for, and leaves them out", async () => {
  const { rows, log } = await start({ x: entry("snapshots") });
  assert.deepEqual(rows, []);
  assert.match(log, /unknown proxy plugin type.*plugin=x type=snapshots/);
});

test("proxyPlugins() shows an address that is no socket as the plugin's failure", async () => {
  const { rows } = await start({
    tcp: entry("content", { address: "tcp://127.0.0.1:1" }),
    none: entry("diff", { address: "" }),
  });
  assert.deepEqual(
    rows.map(({ state, error }) => [state, error]),
    [
      [
        "failed",
        'proxy plugin "tcp": address "tcp://127.0.0.1:1" is no unix socket: invalid argument',
      ],
      ["failed", 'proxy plugin "none": address "" is no unix socket: invalid argument'],
    ],
  );
});

test("proxyPlugins() does without a platform that does not parse", async () => {
  const { rows, log } = await start({ p: entry("snapshot", { platform: "linux/*" }) });
  assert.deepEqual(rows[0]?.platforms, []);
  assert.equal(rows[0]?.state, "started");
  assert.match(log, /skipping proxy platform with bad platform/);
});
