import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "smol-toml";
import { isTable } from "#pkg/plugin/table.ts";

// What `containerd config default` of Go's containerd 2.4.2 prints, a line for each key and each table without any.
const recorded = readFileSync(join(import.meta.dirname, "config-of-go-2.txt"), "utf8");

/** Ours alone, or another default; docs/compat.md says why. */
const differs: Readonly<Record<string, string>> = {
  "plugins/io.containerd.shim.v1.manager/grouping": '"namespace"',
  "plugins/io.containerd.shim.v1.manager/standby": "true",
  "plugins/io.containerd.transfer.v1.local/docker_config": '""',
  "plugins/io.containerd.transfer.v1.local/referrers": "[]",
  "plugins/io.containerd.transfer.v1.local/max_concurrent_unpacks": "2",
};

/** CRI comes piece by piece: of these there is a part of the keys. */
const pending = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"];

/** Go's that nothing here waits for: the database is opened at once, or is somebody else's. */
const notHere = ["timeouts/io.containerd.timeout.bolt.open"];

function flatten(value: unknown, path = ""): [string, string][] {
  if (!isTable(value)) return [[path, JSON.stringify(value)]];
  const entries = Object.entries(value);
  if (entries.length === 0) return [[path, "{}"]];
  return entries.flatMap(([key, each]) => flatten(each, path === "" ? key : `${path}/${key}`));
}

function defaultsOf(program: string): Map<string, string> {
  const text = execFileSync(program, ["config", "default"], { encoding: "utf8" });
  // The one that is the machine's.
  const platform = `linux/${process.arch === "x64" ? "amd64" : process.arch}`;
  return new Map(flatten(parse(text.replaceAll(platform, "linux/amd64"))));
}

function recordedLines(): Map<string, string> {
  const lines = recorded.trim().split("\n");
  return new Map(
    lines.map((line) => {
      const equals = line.indexOf(" = ");
      return [line.slice(0, equals), line.slice(equals + 3)];
    }),
  );
}

const pluginOf = (path: string): string | undefined => /^plugins\/([^/]+)/.exec(path)?.[1];

test("config default has Go's keys and values, for each plugin there is", () => {
  const go = recordedLines();
  const ours = defaultsOf(join(import.meta.dirname, "../../bin/containerd"));
  const plugins = new Set([...ours.keys()].map(pluginOf));
  const isWanted = (path: string): boolean => {
    const plugin = pluginOf(path);
    if (path.startsWith("timeouts/io.containerd.timeout.cri.")) return ours.has(path);
    if (plugin === undefined) return !notHere.includes(path);
    return pending.includes(plugin) ? ours.has(path) : plugins.has(plugin);
  };
  const wanted = new Map([...go].filter(([path]) => isWanted(path)));
  for (const [path, value] of Object.entries(differs)) wanted.set(path, value);
  assert.deepEqual(sorted(ours), sorted(wanted));
  const unknown = [...plugins].filter((plugin) => ![...go.keys()].map(pluginOf).includes(plugin));
  assert.deepEqual(unknown, []);
});

const newest = process.env["CONTAINERD_TEST_GO"];
if (newest !== undefined) {
  test("the keys are those of the newest Go containerd", () => {
    assert.deepEqual(sorted(defaultsOf(join(newest, "containerd"))), sorted(recordedLines()));
  });
}

function sorted(entries: ReadonlyMap<string, string>): string[] {
  return [...entries].map(([path, value]) => `${path} = ${value}`).toSorted();
}
