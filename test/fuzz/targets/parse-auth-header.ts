import assert from "node:assert/strict";
import fc from "fast-check";
import { parseChallenges } from "#core/remotes/challenge.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const token = fc.stringMatching(/^[a-z0-9_-]{1,8}$/);
const parameter = fc.record({
  name: fc.oneof(token, fc.constantFrom("realm", "service", "scope", "__proto__")),
  value: fc.oneof(token, fc.string({ maxLength: 12 })),
  /** How it is set off from the one before it. */
  space: fc.constantFrom("", " ", "\t", "  "),
  isUpper: fc.boolean(),
});
const challenge = fc.record({
  scheme: fc.constantFrom("Bearer", "basic", "DIGEST", "Negotiate", "bearerx", ""),
  parameters: fc.array(parameter, { maxLength: 5 }),
  noise: fc.oneof(fc.constant(""), fc.string({ unit: "binary", maxLength: 8 })),
});
type Written = typeof challenge extends fc.Arbitrary<infer T> ? T : never;

function line({ scheme, parameters, noise }: Written): string {
  const fields = parameters.map(({ name, value, space, isUpper }) => {
    const plain = /^[a-z0-9_-]+$/.test(value);
    const text = plain ? value : `"${value.replaceAll(/[\\"]/g, "\\$&")}"`;
    return `${space}${isUpper ? name.toUpperCase() : name}=${text}`;
  });
  return `${scheme} ${fields.join(",")}${noise === "" ? "" : `,${noise}`}`;
}

const order = ["bearer", "digest", "basic"];

/** Well-formed challenges are what they say, best first, and no line at all is too much. */
export const target = fuzzTarget({
  name: "ParseAuthHeader",
  smokeRuns: 300,
  inputs: fc.record({
    challenges: fc.array(challenge, { maxLength: 3 }),
    garbage: fc.array(fc.string({ unit: "binary", maxLength: 30 }), { maxLength: 2 }),
  }),
  check({ challenges, garbage }) {
    const known = challenges.filter(({ scheme }) => order.includes(scheme.toLowerCase()));
    const expected = known
      .map(({ scheme, parameters, noise }) => {
        const pairs = parameters.map(({ name, value }): [string, string] => [name, value]);
        return { scheme: scheme.toLowerCase(), parameters: new Map(pairs), noise };
      })
      .toSorted((a, b) => order.indexOf(a.scheme) - order.indexOf(b.scheme));
    const parsed = parseChallenges(challenges.map(line));
    assert.equal(parsed.length, expected.length);
    for (const [i, { scheme, parameters, noise }] of expected.entries()) {
      assert.equal(parsed[i]?.scheme, scheme);
      if (noise === "") assert.deepEqual(parsed[i]?.parameters, parameters);
    }
    for (const { parameters } of parseChallenges([
      ...garbage,
      ...garbage.map((one) => `Basic ${one}`),
    ])) {
      for (const name of parameters.keys()) assert.match(name, /^[!#$%&'*+.^_`|~0-9a-z-]+$/);
    }
  },
});
