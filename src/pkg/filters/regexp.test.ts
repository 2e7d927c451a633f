import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Regexp } from "#pkg/filters/regexp.ts";

// Answers as Go's regexp gives them, among them where JavaScript would give another.
const answers: readonly [pattern: string, matching: string[], not: string[]][] = [
  ["", ["", "x"], []],
  ["^/tasks/", ["/tasks/exit"], ["/images", "x/tasks/"]],
  ["b", ["abc"], ["ac"]],
  ["^(a|b|)$", ["a", "b", ""], ["ab"]],
  ["^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]],
  ["^a{,2}$", ["a{,2}"], ["aa"]],
  ["^a{2}{", ["aa{"], ["aa"]],
  ["^a*?b+?$", ["b", "aabb"], ["a"]],
  ["^.$", ["x", "é", "😀"], ["\n", "xx"]],
  ["(?s)^.$", ["\n"], []],
  ["a$", ["a"], ["a\n"]],
  ["(?m)a$", ["a\nb"], ["ab"]],
  ["(?m)^b\\z", ["a\nb"], ["b\n"]],
  ["(?i)straße", ["STRASSE".replace("SS", "ẞ"), "Straße"], ["strasse"]],
  ["(?i)^k$", ["k", "K", "\u212a"], ["c"]],
  ["(?i:a)b", ["Ab"], ["aB"]],
  ["a(?i)b|c", ["aB", "C"], ["Ab"]],
  ["(?i)a(?-i)b", ["Ab"], ["AB"]],
  ["(?i)^[^k]$", ["a"], ["K", "\u212a"]],
  ["(?i)^\\W$", ["-"], ["s", "\u017f"]],
  ["^\\s$", [" ", "\t", "\f"], ["\v", "\u00a0"]],
  ["^\\w\\d\\S$", ["_0x"], ["é0x"]],
  ["^[\\d\\-x-z]+$", ["0-xyz"], ["w"]],
  ["^[]a]+$", ["]a"], ["b"]],
  ["^[^]a]$", ["b"], ["]"]],
  ["^[a-]$", ["a", "-"], ["b"]],
  ["^[[:alpha:]_[:^ascii:]]+$", ["a_é"], ["0"]],
  ["^\\pL+$", ["aé牛"], ["0"]],
  ["^\\p{Greek}\\P{Greek}$", ["αa"], ["aα"]],
  ["^\\p{^Lu}$", ["a"], ["A"]],
  ["^\\x41\\x{725b}\\101\\a\\f\\t\\n\\r\\v$", ["A牛A\x07\f\t\n\r\v"], [""]],
  ["^\\Qa.b*\\E$", ["a.b*"], ["axb"]],
  ["^\\Qab\\E+$", ["abb"], ["abab"]],
  ["\\bfoo\\b", ["a foo b", "foo"], ["food", "éfoof"]],
  ["\\Boo", ["foo"], ["oo"]],
  ["^(?P<n>a)(?<m>b)$", ["ab"], ["a"]],
  ["^(a*)*$", ["", "aaa"], ["b"]],
  ["^(|a)+$", ["", "aa"], ["b"]],
  ["^(a?){3}$", ["", "aaa"], ["aaaa"]],
  ["a(?i)*", ["", "b"], []],
];

for (const [pattern, matching, not] of answers) {
  test(`regexp ${JSON.stringify(pattern)}`, () => {
    const regexp = new Regexp(pattern);
    for (const text of matching) assert.equal(regexp.matches(text), true, JSON.stringify(text));
    for (const text of not) assert.equal(regexp.matches(text), false, JSON.stringify(text));
  });
}

const refused: readonly [pattern: string, problem: string][] = [
  ["(a", "missing closing ): `(a`"],
  ["a)", "unexpected ): `a)`"],
  ["[a", "missing closing ]: `[a`"],
  ["[z-a]", "invalid character class range: `z-a`"],
  ["[[:nope:]]", "invalid character class range: `[:nope:]`"],
  ["*a", "missing argument to repetition operator: `*`"],
  ["(?:{2}a)", "missing argument to repetition operator: `{2}`"],
  ["a**", "invalid nested repetition operator: `**`"],
  ["a{1001}", "invalid repeat count: `{1001}`"],
  ["a{3,2}", "invalid repeat count: `{3,2}`"],
  ["(a)\\1", "invalid escape sequence: `\\1`"],
  ["\\k", "invalid escape sequence: `\\k`"],
  ["a\\", "trailing backslash at end of expression: ``"],
  ["(?=a)", "invalid or unsupported Perl syntax: `(?=`"],
  ["(?<!a)", "invalid named capture: `(?<!a)`"],
  ["\\p{Foo}", "invalid character class range: `\\p{Foo}`"],
];

for (const [pattern, problem] of refused) {
  test(`regexp ${JSON.stringify(pattern)} is refused`, () => {
    assert.throws(() => new Regexp(pattern), {
      name: "RegexpSyntaxError",
      message: `error parsing regexp: ${problem}`,
    });
  });
}

test("an expression that makes a backtracking engine hang is answered", () => {
  const text = `${"a".repeat(5_000)}!`;
  assert.equal(new Regexp("^(a+)+$").matches(text), false);
  assert.equal(new Regexp("(a|aa|a?)*$b").matches(text), false);
});

test("an expression whose program would be too large is refused", () => {
  assert.throws(() => new Regexp("((a{100}){100}){100}"), /expression too large/);
  assert.throws(() => new Regexp("(".repeat(5000)), /nests too deeply/);
});

// Where both languages agree, JavaScript's own engine is the model.
const shared: fc.Arbitrary<string> = fc.letrec<{ node: string }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom("a", "b", "[ab]", "[^a]", ".", "^", "$", "\\b", "(?:)"),
    fc.tuple(tie("node"), tie("node")).map(([l, r]) => l + r),
    fc.tuple(tie("node"), tie("node")).map(([l, r]) => `(?:${l}|${r})`),
    fc
      .tuple(tie("node"), fc.constantFrom("*", "+", "?", "{2}", "{1,3}", "*?"))
      .map(([n, op]) => `(?:${n})${op}`),
  ),
})).node;

test("Regexp agrees with JavaScript where the two languages are the same", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "-"), maxLength: 6 });
  fc.assert(
    fc.property(shared, text, (pattern, value) => {
      assert.equal(new Regexp(pattern).matches(value), new RegExp(pattern, "u").test(value));
    }),
    { numRuns: 500 },
  );
});
