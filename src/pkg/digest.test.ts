import assert from "node:assert";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import {
  digestAlgorithm,
  Digester,
  digestHex,
  digestOf,
  parseDigest,
  tryParseDigest,
} from "#pkg/digest.ts";

test("parseDigest() takes what hashing makes", () => {
  for (const algorithm of ["sha256", "sha384", "sha512"]) {
    const hex = createHash(algorithm).update("x").digest("hex");
    const digest = parseDigest(`${algorithm}:${hex}`);
    assert.deepStrictEqual([digestAlgorithm(digest), digestHex(digest)], [algorithm, hex]);
  }
});

test("parseDigest() refuses the rest, with upstream's words", () => {
  const hex = "a".repeat(64);
  const cases: readonly [string, RegExp][] = [
    ["", /invalid checksum digest format/],
    [hex, /invalid checksum digest format/],
    [`sha256:${hex}0`, /invalid checksum digest length/],
    [`sha256:${"A".repeat(64)}`, /invalid checksum digest format/],
    [`md5:${"a".repeat(32)}`, /unsupported digest algorithm/],
    [`sha256:../../../${"a".repeat(55)}`, /invalid checksum digest format/],
    [`sha256:${hex}\n`, /invalid checksum digest format/],
    [`constructor:${hex}`, /unsupported digest algorithm/],
  ];
  for (const [text, message] of cases) assert.throws(() => parseDigest(text), message, text);
});

test("what parses is safe as a file's name", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((s) => `sha256:${s}`),
      ),
      (text) => {
        const digest = tryParseDigest(text);
        assert.ok(digest === undefined || /^sha(256|384|512):[0-9a-f]+$/.test(digest));
      },
    ),
  );
});

test("a running digest can be asked at any time", () => {
  const digester = new Digester().update(Buffer.from("ab"));
  assert.strictEqual(digester.digest(), digestOf("ab"));
  assert.strictEqual(digester.update(Buffer.from("c")).digest(), digestOf("abc"));
  assert.throws(() => new Digester("md5"), /unsupported digest algorithm/);
});
