import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { codeOf } from "#pkg/errors.ts";
import { assertLabels, fitsLabel, withoutEmpty } from "#pkg/label.ts";

/** Texts of every length around the bound, in characters of one to four bytes. */
const text = fc
  .tuple(fc.constantFrom("k", "\u00e9", "\u20ac", "\u{1f600}"), fc.nat(4200))
  .map(([character, length]) => character.repeat(length));

test("a label fits by its bytes, key and value together, at most 4096", () => {
  fc.assert(
    fc.property(text, text, (key, value) => {
      const bytes = new TextEncoder().encode(key + value).length;
      assert.equal(fitsLabel(key, value), bytes <= 4096);
      if (bytes <= 4096) return assertLabels({ other: "fits", [key]: value });
      assert.throws(
        () => assertLabels({ other: "fits", [key]: value }),
        (error: Error) => {
          assert.equal(codeOf(error), "invalid-argument");
          assert.ok(error.message.includes(`(${bytes} bytes)`), error.message);
          // What is said of an endless key ends.
          return error.message.length < 300;
        },
      );
    }),
  );
});

test("what is stored of labels is those that have a value", () => {
  const labels = fc.dictionary(fc.string(), fc.oneof(fc.constant(""), fc.string()));
  fc.assert(
    fc.property(labels, (given) => {
      const kept = withoutEmpty(given);
      for (const [key, value] of Object.entries(given)) {
        assert.equal(Object.hasOwn(kept, key), value !== "");
        if (value !== "") assert.equal(kept[key], value);
      }
      assert.ok(Object.keys(kept).every((key) => Object.hasOwn(given, key)));
    }),
  );
});
