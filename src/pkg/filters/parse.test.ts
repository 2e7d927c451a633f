import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CodedError } from "#pkg/errors.ts";
import { type Adaptor, field, labelField } from "#pkg/filters/filter.ts";
import { parseFilter, parseFilters } from "#pkg/filters/parse.ts";

interface Entry {
  readonly name: string;
  readonly other?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

const corpus: readonly Entry[] = [
  { name: "foo", labels: { foo: "true" } },
  { name: "bar" },
  { name: "foo", labels: { foo: "present", "more complex label": "present" } },
  { name: "bar", labels: { bar: "true" } },
  { name: "fooer", labels: { 'more complex label with \\ and "': "present" } },
  { name: "fooer", labels: { 'more complex label with \\ and ".post': "present" } },
  { name: "baz", other: "too complex, yo" },
  { name: "bazo", other: "abc" },
  { name: "compound", labels: { foo: "omg_asdf.asdf-qwer", empty: "" } },
];

function adapt(entry: Entry): Adaptor {
  return (path) => {
    if (path[0] === "name") return field(entry.name);
    if (path[0] === "other") return field(entry.other ?? "");
    if (path[0] === "labels") return labelField(entry.labels ?? {}, path);
    return undefined;
  };
}

function matching(...filters: string[]): number[] {
  const filter = parseFilters(filters);
  return [...corpus.entries()].filter(([, entry]) => filter(adapt(entry))).map(([i]) => i);
}

const everything = [...corpus.keys()];

const cases: readonly [filter: string, expected: readonly number[]][] = [
  ["", everything],
  ["name", everything],
  ["labels.foo", [0, 2, 8]],
  ["labels.foo,name", [0, 2, 8]],
  ["labels.foo==true", [0]],
  ["labels.foo==omg_asdf.asdf-qwer", [8]],
  ["name==bar", [1, 3]],
  ["name!=bar", [0, 2, 4, 5, 6, 7, 8]],
  ["name==bar,labels.bar", [3]],
  ['other=="too complex, yo"', [6]],
  ["other~=[abc]+,name!=foo", [6, 7]],
  ["other~=/[abc]+/,name!=foo", [6, 7]],
  ["other~=/[abc]{1,2}/,name!=foo", [6, 7]],
  ['other~=/[abc]{0,1}"\\//,name!=foo', []],
  ["name==bar,labels.bar==true", [3]],
  ["name==bar,labels.bar==wrong", []],
  ['name==foo,labels."more complex label"', [2]],
  ['labels."more complex label with \\\\ and \\""==present', [4]],
  ['labels."more complex label with \\\\ and \\"".post==present', [5]],
  ["labels.empty", [8]],
  ['labels.empty==""', [8]],
  ['other==""', []],
  ["unknown", []],
  ["unknown!=x", everything],
  ["name~=|^fo+er$|", [4, 5]],
  ["name ==  foo", [0, 2]],
  ['name=="\\x66\\157\\u006f"', [0, 2]],
];

for (const [filter, expected] of cases) {
  test(`filter ${JSON.stringify(filter)}`, () => {
    assert.deepEqual(matching(filter), expected);
  });
}

test("a list of filters matches what any of them matches", () => {
  assert.deepEqual(matching("name==baz", "labels.bar"), [3, 6]);
  assert.deepEqual(matching(), everything);
});

const refused: readonly [filter: string, problem: string][] = [
  ["labels.|foo|==x", "[labels. >|||< foo|==x]: invalid quote encountered"],
  ["labels.?", "[labels. >|?|< ]: expected field or quoted"],
  ["name==foo,", "[name==foo,]: expected field or quoted"],
  ["labels.", "[labels.]: expected field or quoted"],
  ["image~=,id?=?fbaq", "[image~= >|,|< id?=?fbaq]: expected value or quoted"],
  ["labels.ns/key==value", "[labels.ns >|/|< key==value]: quoted literal not terminated"],
  ["labels.key==/value", "[labels.key== >|/|< value]: quoted literal not terminated"],
  ["name=foo", '[name >|=|< foo]: unsupported operator "="'],
  ["name foo", '[name  >|f|< oo]: expected an operator ("=="|"!="|"~=")'],
  ["name==foo bar", "[name==foo >| |< bar]: unexpected input:  "],
  ["a\0b==c", "[a >|\0|< b==c]: unexpected null"],
  ['labels."\\g"', '[labels. >|"|< \\g"]: illegal escape sequence'],
  ['labels."\\xaz"', '[labels. >|"|< \\xaz"]: illegal numeric escape sequence'],
  ['a=="\\400"', '[a== >|"|< \\400"]: unquoting failed: quote syntax error'],
];

for (const [filter, problem] of refused) {
  test(`filter ${JSON.stringify(filter)} is refused`, () => {
    assert.throws(() => parseFilter(filter), {
      code: "invalid-argument",
      message: `filters: parse error: ${problem}: invalid argument`,
    });
  });
}

test("a regular expression that does not compile is refused, not silently without a match", () => {
  assert.throws(() => parseFilter("name~=|(a|"), {
    code: "invalid-argument",
    message: "filters: error parsing regexp: missing closing ): `(a`: invalid argument",
  });
  assert.throws(() => parseFilter('name~="(?=a)"'), {
    message:
      "filters: error parsing regexp: invalid or unsupported Perl syntax: `(?=`: invalid argument",
  });
});

test("a filter longer than the bound is refused by its length", () => {
  assert.throws(() => parseFilter(`a==${"x".repeat(70_000)}`), {
    message: "filters: filter of 70003 characters, limit 65536: invalid argument",
  });
});

const name = fc.oneof(
  fc.constantFrom("id", "name", "labels", "a_b", "0"),
  fc.string({ minLength: 1, unit: "grapheme" }).filter((s) => !/[\0\n\ufffd]/.test(s)),
);
const quote = (s: string): string => `"${s.replaceAll(/[\\"]/g, "\\$&")}"`;
const printed = (s: string): string => (/^[A-Za-z0-9_]+$/.test(s) ? s : quote(s));

test("parseFilter() finds the field and the value that were written", () => {
  const path = fc.array(name, { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(path, name, name, (fields, value, other) => {
      const text = fields.map(printed).join(".");
      const asked: (readonly string[])[] = [];
      const adaptor =
        (found: string | undefined): Adaptor =>
        (fieldpath) => {
          asked.push(fieldpath);
          return found;
        };
      assert.equal(parseFilter(text)(adaptor("")), true);
      assert.equal(parseFilter(text)(adaptor(undefined)), false);
      assert.equal(parseFilter(`${text}==${quote(value)}`)(adaptor(value)), true);
      assert.equal(parseFilter(`${text}==${quote(value)}`)(adaptor(other)), value === other);
      assert.equal(parseFilter(`${text}!=${quote(value)}`)(adaptor(other)), value !== other);
      for (const fieldpath of asked) assert.deepEqual(fieldpath, fields);
    }),
  );
});

test("parseFilter() takes any input or throws invalid-argument", () => {
  const piece = fc.constantFrom('"', "/", "|", "\\", ".", ",", "==", "~=", "!", "a", " ", "(", "[");
  const input = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(piece).map((a) => a.join("")),
  );
  fc.assert(
    fc.property(input, (text) => {
      try {
        parseFilter(text)(() => "value");
      } catch (error) {
        assert.ok(error instanceof CodedError && error.code === "invalid-argument", String(error));
      }
    }),
  );
});
