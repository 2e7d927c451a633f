import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { inOrder } from "#pkg/plugin/order.ts";
import {
  type AnyPlugin,
  definePlugin,
  pluginType,
  type Requirement,
  type TypeName,
  uri,
} from "#pkg/plugin/plugin.ts";
import { all, any, one } from "#pkg/plugin/requirement.ts";

function plugin(type: TypeName, id: string, ...needs: Requirement<unknown>[]): AnyPlugin {
  const requires = Object.fromEntries(needs.map((need, i) => [`n${i}`, need]));
  return definePlugin({ type: pluginType(type), id, requires, init: async () => undefined });
}

const typeAt = (n: number): TypeName => `io.containerd.t${n}.v1`;

/** Plugins whose types only require types of a lower number, in any order of registration. */
const acyclic = fc
  .array(
    fc
      .record({ type: fc.nat(6), needs: fc.uniqueArray(fc.nat(5), { maxLength: 3 }) })
      .map(({ type, needs }) => ({ type, needs: needs.filter((n) => n < type) })),
    { maxLength: 14 },
  )
  .map((specs) =>
    specs.map(({ type, needs }, i) =>
      plugin(typeAt(type), `p${i}`, ...needs.map((n) => all(pluginType(typeAt(n))))),
    ),
  );

const needsOf = (p: AnyPlugin): string[] =>
  Object.values(p.requires as Record<string, Requirement<unknown>>).map((need) => need.type);

test("inOrder() puts every plugin once, behind every plugin of the types it requires", () => {
  fc.assert(
    fc.property(acyclic, (plugins) => {
      const ordered = inOrder(plugins);
      assert.equal(ordered.length, plugins.length);
      assert.equal(new Set(ordered).size, plugins.length);
      for (const [at, p] of ordered.entries()) {
        for (const peer of plugins.filter((q) => needsOf(p).includes(q.type.name))) {
          assert.ok(ordered.indexOf(peer) < at, `${uri(peer)} before ${uri(p)}`);
        }
      }
    }),
  );
});

test("inOrder() keeps the order of registration where nothing is required", () => {
  fc.assert(
    fc.property(acyclic, (plugins) => {
      // A plugin only ever moves forward because one registered before it, with its needs, asked
      // for its type.
      const ordered = inOrder(plugins);
      for (const [i, p] of ordered.entries()) {
        const overtaken = ordered
          .slice(i + 1)
          .filter((q) => plugins.indexOf(q) < plugins.indexOf(p));
        const askers = overtaken.flatMap(function reach(q): string[] {
          return needsOf(q).flatMap((type) => [
            type,
            ...plugins.filter((r) => r.type.name === type).flatMap(reach),
          ]);
        });
        if (overtaken.length > 0) assert.ok(askers.includes(p.type.name), uri(p));
      }
    }),
  );
});

test("inOrder() leaves disabled plugins out", () => {
  const content = plugin("io.containerd.content.v1", "content");
  const event = plugin("io.containerd.event.v1", "exchange");
  const gc = plugin("io.containerd.gc.v1", "s", one(pluginType("io.containerd.content.v1")));
  assert.deepEqual(
    inOrder([gc, event, content], new Set(["io.containerd.content.v1.content"])).map(uri),
    ["io.containerd.gc.v1.s", "io.containerd.event.v1.exchange"],
  );
});

test("inOrder() names the uris of a cycle", () => {
  const a = plugin("io.containerd.a.v1", "a", one(pluginType("io.containerd.b.v1")));
  const b = plugin("io.containerd.b.v1", "b", one(pluginType("io.containerd.a.v1")));
  assert.throws(() => inOrder([a, b]), {
    code: "invalid-argument",
    message:
      "circular plugin dependency at io.containerd.a.v1.a (io.containerd.a.v1.a -> " +
      "io.containerd.b.v1.b -> io.containerd.a.v1.a): invalid argument",
  });
});

test("inOrder() puts a plugin that requires any() last", () => {
  const last = plugin("io.containerd.z.v1", "z", any());
  const a = plugin("io.containerd.a.v1", "a");
  assert.deepEqual(inOrder([last, a]), [a, last]);
});

test("inOrder() refuses registrations that cannot be right", () => {
  const refused = (plugins: AnyPlugin[], message: RegExp): void => {
    assert.throws(() => inOrder(plugins), { message });
  };
  const own = pluginType("io.containerd.a.v1");
  refused([plugin(own.name, "")], /io\.containerd\.a\.v1: no id/);
  refused([plugin(own.name, "x"), plugin(own.name, "x")], /^io\.containerd\.a\.v1\.x: plugin id/);
  refused([plugin(own.name, "x", one(own))], /a\.v1\.x requires its own type/);
  refused(
    [plugin(own.name, "x", any(), one(pluginType("io.containerd.b.v1")))],
    /a\.v1\.x requires any\(\) beside/,
  );
});
