import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { formatLossless, parseLossless } from "./lossless-json.ts";

suite("lossless json", () => {
  test("formatLossless() writes numbers as they were, also those that JavaScript has no room for", () => {
    const text = '{"hard":18446744073709551615,"soft":1024,"f":1.50,"s":"1.50"}';
    assert.equal(formatLossless(parseLossless(text, "x")), text);
  });

  test("parseLossless() lets a field be replaced", () => {
    const spec = { ...parseLossless('{"a":9223372036854771712,"terminal":false}', "x") };
    assert.equal(
      formatLossless({ ...spec, terminal: true }),
      '{"a":9223372036854771712,"terminal":true}',
    );
  });

  test("parseLossless() refuses what is no object", () => {
    assert.throws(() => parseLossless("[1]", "spec"), /spec is not an object: invalid argument/);
    assert.throws(() => parseLossless("{", "spec"), /^CodedError: spec: /);
  });
});
