import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { imageNameAnnotation, refNameAnnotation } from "#core/images/annotations.ts";
import { archiveName, nameAnnotations } from "#core/images/archive-name.ts";
import {
  familiarDockerReference,
  normalizeDockerReference,
} from "#core/images/docker-reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

test("normalizeDockerReference() fills in host, library and tag", () => {
  for (const [given, expected] of [
    ["alpine", "docker.io/library/alpine:latest"],
    ["alpine:3", "docker.io/library/alpine:3"],
    ["me/app", "docker.io/me/app:latest"],
    ["docker.io/alpine", "docker.io/library/alpine:latest"],
    ["index.docker.io/alpine", "docker.io/library/alpine:latest"],
    ["localhost/app", "localhost/app:latest"],
    ["localhost:5000/a/b:t", "localhost:5000/a/b:t"],
    ["[::1]:5000/a:t", "[::1]:5000/a:t"],
    ["Registry/app", "Registry/app:latest"],
    [`alpine:3@${digest}`, `docker.io/library/alpine@${digest}`],
    [`quay.io/a__b/c--d@${digest}`, `quay.io/a__b/c--d@${digest}`],
  ] as const) {
    assert.equal(normalizeDockerReference(given), expected);
  }
});

test("normalizeDockerReference() refuses what is no reference", () => {
  const wrong = [
    "",
    ":t",
    "Alpine",
    "a:",
    "a@",
    "a@sha256:12",
    "a b",
    "a//b",
    "/a",
    "a/",
    "-a",
    "a:-t",
  ];
  for (const text of [...wrong, "a".repeat(64), `a/${"b".repeat(300)}`, "http://a/b", "a:t:u"]) {
    assert.throws(() => normalizeDockerReference(text), { code: "invalid-argument" }, text);
  }
});

test("familiarDockerReference() is short, and normalising goes back", () => {
  assert.equal(familiarDockerReference("docker.io/library/alpine:3"), "alpine:3");
  assert.equal(familiarDockerReference("docker.io/me/app"), "me/app:latest");
  assert.equal(familiarDockerReference("docker.io/library/a/b:1"), "library/a/b:1");
  assert.equal(familiarDockerReference(`quay.io/a@${digest}`), `quay.io/a@${digest}`);
  const part = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const refs = fc.record({
    host: fc.constantFrom("", "docker.io/", "quay.io/"),
    part,
    more: part,
    tag: part,
  });
  fc.assert(
    fc.property(refs, ({ host, part: one, more, tag }) => {
      const normal = normalizeDockerReference(`${host}${one}/${more}:${tag}`);
      assert.equal(normalizeDockerReference(familiarDockerReference(normal)), normal);
    }),
  );
});

test("archiveName() takes names below the prefix, tags behind it, and others where allowed", () => {
  const full = (name: string): Record<string, string> => ({ [imageNameAnnotation]: name });
  const tag = (name: string): Record<string, string> => ({ [refNameAnnotation]: name });
  const strict = { allowOther: false };
  const open = { allowOther: true };
  for (const [annotations, options, expected] of [
    [full("docker.io/library/a:1"), open, "docker.io/library/a:1"],
    [full("docker.io/library/a:1"), strict, undefined],
    [full("base/a:1"), strict, "base/a:1"],
    [full("base:1"), strict, "base:1"],
    [full("basement:1"), strict, undefined],
    [full("1"), open, undefined],
    [{ ...full("docker.io/a:1"), ...tag("2") }, open, "docker.io/a:1"],
    [tag("2"), strict, "base:2"],
    [tag("other/x:2"), strict, undefined],
    [tag("other/x:2"), open, "other/x:2"],
    [{}, open, undefined],
  ] as const) {
    assert.equal(archiveName(annotations, "base", options), expected);
  }
  assert.equal(archiveName(full("a/b:1"), "", open), undefined);
});

test("nameAnnotations() gives the tag alone where there is one", () => {
  assert.equal(nameAnnotations("docker.io/a/b:1")[refNameAnnotation], "1");
  assert.equal(nameAnnotations("docker.io/a/b:1")[imageNameAnnotation], "docker.io/a/b:1");
  assert.equal(nameAnnotations(`quay.io/b@${digest}`)[refNameAnnotation], `quay.io/b@${digest}`);
  assert.equal(nameAnnotations("plain")[refNameAnnotation], "plain");
});
