import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { Deprecations } from "#core/introspection/deprecations.ts";
import { LocalIntrospection } from "#core/introspection/local.ts";
import { Context } from "#pkg/context.ts";
import type { PluginRecord } from "#pkg/plugin/plugin.ts";

function record(
  type: PluginRecord["type"],
  id: string,
  more: Partial<PluginRecord> = {},
): PluginRecord {
  return {
    type,
    id,
    uri: `${type}.${id}`,
    requires: [],
    state: "started",
    platforms: [],
    capabilities: [],
    exports: new Map(),
    error: undefined,
    instance: {},
    ...more,
  };
}

const ctx = Context.background();
const options = { typeUrl: "t", value: Buffer.from("o") };
const provider = {
  pluginInfo: async (_: Context, asked: typeof options): Promise<typeof options> => ({
    typeUrl: "answer",
    value: Buffer.concat([asked.value, Buffer.from("!")]),
  }),
};
const plugins = [
  record("io.containerd.content.v1", "content"),
  record("io.containerd.snapshotter.v1", "zfs", { state: "skipped", error: new Error("no zfs") }),
  record("io.containerd.runtime.v2", "task", { instance: provider }),
];

function introspection(uuidPath = "/none/uuid"): LocalIntrospection {
  return new LocalIntrospection({ plugins, uuidPath, deprecations: new Deprecations() });
}

test("plugins() filters by type and id", () => {
  const ids = (...filters: string[]): string[] =>
    introspection()
      .plugins(filters)
      .map(({ id }) => id);
  assert.deepEqual(ids(), ["content", "zfs", "task"]);
  assert.deepEqual(ids("type~=snapshotter", "id==task"), ["zfs", "task"]);
  assert.deepEqual(ids("type~=snapshotter,id==task"), []);
  assert.deepEqual(ids("platforms"), []);
  assert.throws(() => ids("id="), { code: "invalid-argument" });
});

test("the UUID is made once for a root, and not where the file holds something else", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/uuid-`);
  const path = `${dir.path}/a/b/uuid`;
  const [{ uuid }, again] = await Promise.all([
    introspection(path).server(),
    introspection(path).server(),
  ]);
  assert.match(uuid, /^[0-9a-f-]{36}$/);
  assert.match(again.uuid, /^[0-9a-f-]{36}$/);
  const kept = await readFile(path, "utf8");
  assert.equal((await introspection(path).server()).uuid, kept);
  assert.deepEqual(await readdir(`${dir.path}/a/b`), ["uuid"]);
  assert.equal((await stat(`${dir.path}/a/b`)).mode & 0o777, 0o700);
  await writeFile(path, "not a uuid");
  await assert.rejects(introspection(path).server(), {
    code: "data-loss",
    message: `${path} holds "not a uuid", no UUID`,
  });
  await writeFile(path, "");
  assert.match((await introspection(path).server()).uuid, /^[0-9a-f-]{36}$/);
});

test("server() says where its pid counts, and what is deprecated", async () => {
  await using dir = await mkdtempDisposable(`${tmpdir()}/uuid-`);
  const deprecations = new Deprecations();
  const server = new LocalIntrospection({ plugins, uuidPath: `${dir.path}/uuid`, deprecations });
  const info = await server.server();
  assert.deepEqual([info.pid, info.pidns], [process.pid, (await stat("/proc/self/ns/pid")).ino]);
  assert.deepEqual(info.deprecations, []);
  deprecations.emit("io.containerd.deprecation/cgroup-v1");
  deprecations.emit("io.containerd.deprecation/cgroup-v1");
  const [warning, ...more] = (await server.server()).deprecations;
  assert.match(warning?.message ?? "", /^The support for cgroup v1 is deprecated since/);
  assert.deepEqual(more, []);
});

test("pluginInfo() asks the plugin, and says what is in the way", async () => {
  const info = introspection();
  const task = { type: "io.containerd.runtime.v2", id: "task" };
  assert.equal((await info.pluginInfo(ctx, task)).extra, undefined);
  assert.equal((await info.pluginInfo(ctx, task, options)).extra?.value.toString(), "o!");
  const refused = (type: string, id: string, code: string, message: string): Promise<void> =>
    assert.rejects(info.pluginInfo(ctx, { type, id }, options), { code, message });
  await refused("a.v1", "b", "not-found", "plugin a.v1.b not found: not found");
  await refused(
    "io.containerd.snapshotter.v1",
    "zfs",
    "failed-precondition",
    "cannot get extra info, plugin not successfully loaded: failed precondition",
  );
  await refused(
    "io.containerd.content.v1",
    "content",
    "not-implemented",
    "plugin does not provided extra information: not implemented",
  );
});
