import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hasCode } from "#pkg/errors.ts";
import { formatReference, parseReference } from "#pkg/reference.ts";

const sha256 = `sha256:${"ab".repeat(32)}`;

test("a reference is a locator and an object", () => {
  const cases: readonly (readonly [string, string, string, string])[] = [
    ["docker.io/library/redis:foo?fooo=asdf", "docker.io/library/redis", "foo", "docker.io"],
    ["docker.io/library/redis#frag", "docker.io/library/redis", "", "docker.io"],
    [`docker.io/library/redis@${sha256}`, "docker.io/library/redis", `@${sha256}`, "docker.io"],
    [
      "localhost:5000/library/redis:obj@abcdef",
      "localhost:5000/library/redis",
      "obj@abcdef",
      "localhost:5000",
    ],
    [
      "b.gcr.io/test.example.com/my-app:test.example.com",
      "b.gcr.io/test.example.com/my-app",
      "test.example.com",
      "b.gcr.io",
    ],
    [
      "xn--n3h.com/myimage:xn--n3h.com@sha512:fffffff",
      "xn--n3h.com/myimage",
      "xn--n3h.com@sha512:fffffff",
      "xn--n3h.com",
    ],
    ["[::1]:5000/a/b:c", "[::1]:5000/a/b", "c", "[::1]:5000"],
    ["[fe80::1%25eth0]/a:b", "[fe80::1%25eth0]/a", "b", "[fe80::1%25eth0]"],
    ["reg.example/UPPER/Case:Tag", "reg.example/UPPER/Case", "Tag", "reg.example"],
    ["reg.example//a/./b/:t", "reg.example/a/b", "t", "reg.example"],
    ["reg.example/a%2fb%3At", "reg.example/a/b", "t", "reg.example"],
    ["user:secret@reg.example/a:t", "reg.example/a", "t", "reg.example"],
    ["redis", "redis", "", "redis"],
  ];
  for (const [text, locator, object, hostname] of cases) {
    const reference = parseReference(text);
    assert.equal(reference.locator, locator, text);
    assert.equal(reference.object, object, text);
    assert.equal(reference.hostname, hostname, text);
  }
});

test("tag, digest and repository are parts of it", () => {
  const reference = parseReference(`localhost:5000/a/b:v1@${sha256}`);
  assert.equal(reference.repository, "a/b");
  assert.equal(reference.tag, "v1");
  assert.equal(reference.digest, sha256);
  assert.equal(parseReference("h/a:v1").digest, undefined);
  assert.equal(parseReference(`h/a@${sha256}`).tag, "");
});

test("a path that climbs could reach another host, and is refused", () => {
  for (const text of [
    "example.com/../other/image:latest",
    "example.com/%2e%2e/other/image:latest",
    "example.com/%2E./other/image:latest",
    "example.com/library/../image:latest",
    "example.com/library/..",
    "example.com/a%2f..%2fb:t",
    "../other/image:latest",
    "./docker.io/library/redis:7",
    "..:80/image:latest",
  ]) {
    assert.throws(() => parseReference(text), { message: /^invalid reference ".*": / }, text);
  }
});

test("what is no reference is refused with upstream's words", () => {
  for (const text of [
    "http://docker.io/library/redis:7",
    "docker.io/a b%zz",
    "docker.io/%ff",
    "docker.io/a\nb",
    "docker.io/a%0ab",
    "[::1/a:b",
    "[zz]/a:b",
    "::1/a:b",
    "host:port/a",
    "ho st/a",
    `redis@${sha256}`,
  ]) {
    assert.throws(
      () => parseReference(text),
      (error: Error) =>
        hasCode(error, "invalid-argument") && error.message.startsWith("invalid reference "),
      text,
    );
  }
  for (const text of ["", "/docker.io/library/redis:7", ":", "?a", "#"]) {
    assert.throws(() => parseReference(text), { code: "invalid-argument" }, text);
  }
  assert.throws(() => parseReference("/docker.io/a"), { message: /: hostname required$/ });
});

test("property: what is formatted parses to the same", () => {
  const word = fc.stringMatching(/^[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?$/);
  const host = fc.oneof(
    fc.tuple(word, word).map(([a, b]) => `${a}.${b}`),
    fc.tuple(word, fc.nat(65_535)).map(([a, port]) => `${a}:${port}`),
    fc.ipV6().map((ip) => `[${ip}]:443`),
    fc.ipV4(),
  );
  const object = fc.oneof(
    fc.constant(""),
    word,
    fc.constant(`@${sha256}`),
    word.map((tag) => `${tag}@${sha256}`),
  );
  fc.assert(
    fc.property(host, fc.array(word, { minLength: 1, maxLength: 4 }), object, (h, parts, o) => {
      const text = formatReference({ locator: [h, ...parts].join("/"), object: o });
      const reference = parseReference(text);
      assert.equal(formatReference(reference), text);
      assert.equal(reference.hostname, h);
      assert.equal(reference.repository, parts.join("/"));
      assert.equal(reference.object, o);
    }),
  );
});

test("property: any text either parses to a host of its own or is refused as invalid", () => {
  const piece = fc.constantFrom(
    "..",
    "%2e",
    "%2E%2E",
    "/",
    "a",
    ":",
    "@",
    "[",
    "]",
    "%",
    "\0",
    "é",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(piece).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(text, (input) => {
      let reference: ReturnType<typeof parseReference>;
      try {
        reference = parseReference(input);
      } catch (error) {
        assert.ok(hasCode(error, "invalid-argument"), String(error));
        return;
      }
      const { hostname, locator, repository } = reference;
      assert.equal(locator, repository === "" ? hostname : `${hostname}/${repository}`);
      assert.ok(!hostname.includes("/") && hostname !== ".." && hostname !== ".", input);
      assert.ok(!repository.split("/").includes(".."), input);
      // The host is the one that stands first in the text, whatever follows.
      assert.ok((input.split("/", 1)[0] ?? "").includes(hostname), input);
    }),
    { numRuns: 2000 },
  );
});
