import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseChallenges } from "#core/remotes/challenge.ts";

function parameters(line: string): Record<string, string> | undefined {
  const challenge = parseChallenges([line])[0];
  return challenge && Object.fromEntries(challenge.parameters);
}

test("a challenge has a scheme and parameters", () => {
  const [challenge] = parseChallenges([
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",' +
      'scope="repository:foo/bar:pull,push repository:foo/baz:pull"',
  ]);
  assert.equal(challenge?.scheme, "bearer");
  assert.deepEqual(Object.fromEntries(challenge?.parameters ?? []), {
    realm: "https://auth.docker.io/token",
    service: "registry.docker.io",
    scope: "repository:foo/bar:pull,push repository:foo/baz:pull",
  });
  const header = 'bearer REALM="r",empty="",service=s, scope = "x"';
  assert.deepEqual(parameters(header), { realm: "r", empty: "", service: "s" });
  assert.deepEqual(parameters('Basic realm="a \\"quoted\\" \\\\ one"'), {
    realm: 'a "quoted" \\ one',
  });
  assert.deepEqual(parameters("Basic"), {});
  assert.deepEqual(parameters('Bearer realm="never ends'), { realm: "" });
  assert.deepEqual(parameters('Bearer realm="ends in an escape\\'), { realm: "" });
  assert.deepEqual(parameters('Bearer realm="a" service="b"'), { realm: "a" });
});

test("bearer comes before digest before basic; the rest is left out", () => {
  const lines = ['Basic realm="b"', "Negotiate", 'Digest realm="d"', 'Bearer realm="t"', ""];
  assert.deepEqual(
    parseChallenges(lines).map(({ scheme }) => scheme),
    ["bearer", "digest", "basic"],
  );
});

test("property: any parameters come back as they were quoted", () => {
  const name = fc.stringMatching(/^[a-z_]{1,10}$/);
  const value = fc.string({ unit: "binary", maxLength: 40 });
  const pairs = fc.uniqueArray(fc.tuple(name, value), { maxLength: 6, selector: ([n]) => n });
  fc.assert(
    fc.property(pairs, (given) => {
      const quoted = given.map(([n, v]) => `${n}="${v.replaceAll(/["\\]/g, "\\$&")}"`);
      assert.deepEqual(parameters(`Bearer ${quoted.join(", ")}`), Object.fromEntries(given));
    }),
  );
});

test("property: no line is refused, and none costs more than its length", () => {
  const piece = fc.constantFrom("Bearer ", "realm", "=", '"', "\\", ",", " ", "a");
  const line = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 200 }).map((p) => p.join("")),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 3 }), (lines) => {
      for (const { parameters: found } of parseChallenges(lines)) assert.ok(found.size <= 32);
    }),
    { numRuns: 1000 },
  );
});
