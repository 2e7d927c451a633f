// Most of this is checked by the compiler: what must not compile does not.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as v from "valibot";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin, type PluginType, pluginType, SkipPlugin, uri } from "#pkg/plugin/plugin.ts";
import { all, byId, one, optional } from "#pkg/plugin/requirement.ts";

interface Store {
  get(key: string): string;
}
const StorePlugin: PluginType<Store> = pluginType("io.containerd.store.v1");
const requires = {};
const store: Store = { get: (key) => key };

// @ts-expect-error -- not of the form io.containerd.<type>.v<n>
pluginType("store.v1");
// @ts-expect-error -- no version
pluginType("io.containerd.store");

// @ts-expect-error -- does not implement Store
definePlugin({ type: StorePlugin, id: "x", requires, init: async () => ({ get: 5 }) });
// @ts-expect-error -- implements nothing
definePlugin({ type: StorePlugin, id: "x", requires, init: async () => ({}) });
// @ts-expect-error -- a type is tied to exactly its interface
export const wider: PluginType<object> = StorePlugin;

definePlugin({
  type: StorePlugin,
  id: "x",
  requires: { a: one(StorePlugin), b: optional(StorePlugin), c: all(StorePlugin) },
  config: pluginConfig(v.object({ size: v.number() }), { size: 1 }),
  async init({ needs, config }) {
    needs.a.get("k") satisfies string;
    needs.c.get("id")?.get("k") satisfies string | undefined;
    config.size satisfies number;
    // @ts-expect-error -- optional may be absent
    needs.b.get("k");
    // @ts-expect-error -- never asked for
    void needs.d;
    // @ts-expect-error -- not in the schema
    void config.colour;
    return store;
  },
});

// @ts-expect-error -- defaults must fit the schema
pluginConfig(v.object({ size: v.number() }), { size: "1" });

definePlugin({
  type: StorePlugin,
  id: "y",
  requires: { a: byId(StorePlugin, "x") },
  async init({ config, needs }) {
    config satisfies undefined;
    return needs.a;
  },
});

test("uri() joins type and id", () => {
  const plugin = definePlugin({ type: StorePlugin, id: "z", requires, init: async () => store });
  assert.equal(uri(plugin), "io.containerd.store.v1.z");
});

test("SkipPlugin says the words by which clients tell skip from error", () => {
  assert.equal(new SkipPlugin("").message, "skip plugin");
  assert.equal(new SkipPlugin("no such device").message, "no such device: skip plugin");
});
