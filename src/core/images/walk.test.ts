import assert from "node:assert/strict";
import { test } from "node:test";
import { childLabels } from "#core/images/gc-labels.ts";
import { byPlatform, ofPlatforms } from "#core/images/manifest.ts";
import { refKey } from "#core/images/ref-key.ts";
import { dispatch, referencesMax, type Visit, walk } from "#core/images/walk.ts";
import { subjectAnnotation } from "#core/images/annotations.ts";
import { Context } from "#pkg/context.ts";
import { digestOf } from "#pkg/digest.ts";
import type { ImageDescriptor } from "#pkg/image-spec.ts";
import { ociConfig, ociIndex, ociLayer, ociManifest } from "#pkg/media-types.ts";
import { orderedPlatforms } from "#pkg/platform-match.ts";

const ctx = Context.background();
const piece = (name: string, mediaType = ociLayer): ImageDescriptor => ({
  mediaType,
  digest: digestOf(name),
  sizeBytes: 1,
  annotations: {},
});

test("walk() goes depth first in order, dispatch() level by level", async () => {
  const names = new Map<string, string>();
  const tree: Readonly<Record<string, readonly string[]>> = { r: ["a", "b"], a: ["c"], b: ["d"] };
  const make = (name: string): ImageDescriptor => {
    const made = piece(name);
    names.set(made.digest, name);
    return made;
  };
  const seen: string[] = [];
  const visit: Visit = async (_ctx, { digest }) => {
    const name = names.get(digest) ?? "";
    seen.push(name);
    return (tree[name] ?? []).map(make);
  };
  await walk(ctx, visit, [make("r")]);
  assert.equal(seen.join(""), "racbd");
  seen.length = 0;
  await dispatch(ctx, visit, [make("r")]);
  assert.equal(seen.join(""), "rabcd");
});

test("more than 10000 references are refused before they are visited", async () => {
  for (const go of [walk, dispatch]) {
    let visits = 0;
    const bomb: Visit = async () => {
      visits++;
      return Array.from({ length: 100 }, () => piece("same"));
    };
    const limit = { code: "resource-exhausted", message: /too many descriptors \(limit 10000\)/ };
    await assert.rejects(go(ctx, bomb, [piece("root")]), limit);
    assert.ok(visits <= 132);
    visits = 0;
    const roots = Array.from({ length: referencesMax + 1 }, () => piece("same"));
    await assert.rejects(go(ctx, bomb, roots), limit);
    assert.equal(visits, 0);
  }
});

test("dispatch() runs no more than 32 at once and ends the others with the first failure", async () => {
  let running = 0;
  let most = 0;
  const visit: Visit = async (at) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    at.throwIfEnded();
    return [];
  };
  await dispatch(
    ctx,
    visit,
    Array.from({ length: 200 }, () => piece("x")),
  );
  assert.equal(most, 32);
  let visits = 0;
  const failing: Visit = async () => {
    visits++;
    throw new Error("no");
  };
  await assert.rejects(
    dispatch(
      ctx,
      failing,
      Array.from({ length: 200 }, () => piece("x")),
    ),
    /no/,
  );
  assert.ok(visits <= 32);
});

test("childLabels() numbers manifests, layers and others, and names config and referrers", () => {
  const [m1, m2, l1, l2, c, o] = [
    piece("m1", ociManifest),
    piece("m2", ociManifest),
    piece("l1"),
    piece("l2", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    piece("c", ociConfig),
    piece("o", "text/plain"),
  ];
  const referrer = { ...piece("r", ociManifest), annotations: { [subjectAnnotation]: m1.digest } };
  assert.deepEqual(childLabels([c, l1, l2, m1, o, m2, referrer]), {
    "containerd.io/gc.ref.content.config": c.digest,
    "containerd.io/gc.ref.content.l.0": l1.digest,
    "containerd.io/gc.ref.content.l.1": l2.digest,
    "containerd.io/gc.ref.content.m.0": m1.digest,
    "containerd.io/gc.ref.content.0": o.digest,
    "containerd.io/gc.ref.content.m.1": m2.digest,
    [`containerd.io/gc.ref.content.referrer.sha256.${referrer.digest.slice(7, 19)}`]:
      referrer.digest,
  });
});

test("refKey() tells kinds apart", () => {
  const { digest } = piece("x");
  for (const [type, kind] of [
    [ociIndex, "index"],
    [ociManifest, "manifest"],
    [ociLayer, "layer"],
    [ociConfig, "config"],
    ["application/vnd.in-toto+json", "attestation"],
    ["text/plain", "unknown"],
  ] as const) {
    assert.equal(refKey(piece("x", type)), `${kind}-${digest}`);
  }
  const named = { ...piece("x"), annotations: { "org.opencontainers.image.ref.name": "t" } };
  assert.equal(refKey(named), `layer-t@${digest}`);
});

test("entries without a platform pass the filter and come last", () => {
  const of = (os: string, architecture: string): ImageDescriptor => ({
    ...piece(architecture, ociManifest),
    platform: { os, architecture },
  });
  const [amd, arm, none] = [of("linux", "amd64"), of("linux", "arm64"), piece("n", ociManifest)];
  const matcher = orderedPlatforms([
    { os: "linux", architecture: "arm64" },
    { os: "linux", architecture: "amd64" },
  ]);
  const picked = ofPlatforms([none, amd, of("linux", "s390x"), arm], matcher);
  assert.deepEqual(picked, [none, amd, arm]);
  assert.deepEqual(byPlatform(picked, matcher), [arm, amd, none]);
});
