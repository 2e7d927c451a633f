import assert from "node:assert";
import fc from "fast-check";
import { codeOf } from "#pkg/errors.ts";
import { labelField } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const word = fc.stringMatching(/^[a-z][a-z0-9_]{0,5}$/);
const key = fc.oneof(word, fc.constantFrom("a.b/c", 'q"uote', "back\\slash", "sp ace", "ü,=|/"));
const value = fc.oneof(word, fc.constant(""), fc.string({ unit: "grapheme", maxLength: 6 }));
const condition = fc.record({
  key,
  op: fc.constantFrom("", "==", "!=", "~="),
  value: value.filter((text) => !/[\0\n\ufffd]/.test(text)),
  spaced: fc.boolean(),
});
type Condition = typeof condition extends fc.Arbitrary<infer T> ? T : never;

function quoted(text: string): string {
  return `"${text.replaceAll(/[\\"]/g, "\\$&")}"`;
}

function written({ key, op, value, spaced }: Condition): string {
  const space = spaced ? " " : "";
  const literal = op === "~=" ? `^${value.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")}$` : value;
  const right = op === "" ? "" : `${space}${op}${space}${quoted(literal)}`;
  return `labels.${quoted(key)}${right}`;
}

function holds({ key, op, value }: Condition, labels: Readonly<Record<string, string>>): boolean {
  const found = Object.hasOwn(labels, key) ? labels[key] : undefined;
  if (op === "") return found !== undefined;
  if (op === "==") return found === value;
  // What is absent is empty to these two, as upstream.
  return ((found ?? "") === value) === (op === "~=");
}

/** Filters mean what they say, and what is no filter is refused as such. */
export const target = fuzzTarget({
  name: "FiltersParse",
  smokeRuns: 300,
  inputs: fc.record({
    filters: fc.array(fc.array(condition, { minLength: 1, maxLength: 3 }), {
      minLength: 1,
      maxLength: 3,
    }),
    labels: fc.dictionary(key, value, { maxKeys: 4, noNullPrototype: true }),
    noise: fc.record({
      at: fc.nat(200),
      drop: fc.nat(5),
      text: fc.oneof(
        fc.string({ unit: "binary", maxLength: 4 }),
        fc.constantFrom("|(a", "~=/[", '"'),
      ),
    }),
  }),
  check({ filters, labels, noise }) {
    const texts = filters.map((conditions) => conditions.map(written).join(","));
    const expected = filters.some((all) => all.every((one) => holds(one, labels)));
    const field = (path: readonly string[]) => labelField(labels, path);
    assert.strictEqual(parseFilters(texts)(field), expected, texts.join(" or "));
    const [first = ""] = texts;
    const broken = first.slice(0, noise.at) + noise.text + first.slice(noise.at + noise.drop);
    try {
      parseFilters([broken])(field);
    } catch (error) {
      assert.strictEqual(codeOf(error), "invalid-argument", String(error));
    }
  },
});
