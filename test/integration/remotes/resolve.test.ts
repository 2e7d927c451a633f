import assert from "node:assert/strict";
import { createServer } from "node:net";
import { once } from "node:events";
import { test } from "node:test";
import { digestOf } from "#pkg/digest.ts";
import { startClient } from "#test/integration/remotes/client.ts";
import { endless, startFaultRegistry } from "#test/support/registry/fault-registry.ts";
import { hangUp, status } from "#test/support/registry/fault-server.ts";

test("a tag by HEAD: type without parameters, digest, size", async () => {
  await using registry = await startFaultRegistry();
  const { digest, size } = registry.addManifest("a/b", { layers: [] }, "t");
  await using client = startClient();
  const type = "application/vnd.oci.image.manifest.v1+json; charset=utf-8";
  const answer = { "content-type": type, "docker-content-digest": digest, "content-length": "9" };
  registry.rule({ match: /^HEAD/, times: 1, answer: status(200, answer) });
  const ref = `${registry.host}/a/b:t`;
  const expected = {
    name: ref,
    descriptor: {
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest,
      sizeBytes: 9,
      annotations: {},
    },
  };
  assert.deepEqual(await client.resolver.resolve(client.ctx, ref), expected);
  const sent = registry.requests[0]?.headers;
  assert.match(sent?.accept ?? "", /^application\/vnd\.docker\.distribution\.manifest\.v2\+json, /);
  assert.match(sent?.accept ?? "", /, \*\/\*$/);
  assert.match(sent?.["user-agent"] ?? "", /^containerd\/\d/);
  const byDigest = await client.resolver.resolve(client.ctx, `${registry.host}/a/b@${digest}`);
  assert.equal(byDigest.descriptor.sizeBytes, size);
});

test("what HEAD does not say is read: no digest, no size, no HEAD at all", async () => {
  const document = { layers: [] };
  for (const head of [
    status(200, { "content-length": "13" }),
    status(200, { "docker-content-digest": digestOf("x"), "transfer-encoding": "chunked" }),
    status(405),
  ]) {
    await using registry = await startFaultRegistry();
    const { digest, size } = registry.addManifest("a/b", document, "t");
    await using client = startClient();
    registry.rule({ match: /^HEAD/, answer: head });
    const { descriptor } = await client.resolver.resolve(client.ctx, `${registry.host}/a/b:t`);
    assert.equal(descriptor.digest, digest);
    assert.equal(descriptor.sizeBytes, size);
  }
});

test("a digest is looked for among the blobs only where no host has a manifest of it", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const digest = registry.addBlob(Buffer.from("blob"));
  const ref = `${registry.host}/a/b@${digest}`;
  const { descriptor } = await client.resolver.resolve(client.ctx, ref);
  assert.equal(descriptor.mediaType, "application/octet-stream");
  registry.rule({ match: /manifests/, answer: status(500) });
  const before = registry.requests.length;
  await assert.rejects(client.resolver.resolve(client.ctx, ref), { code: "unavailable" });
  assert.ok(registry.requests.slice(before).every(({ target }) => !target.includes("/blobs/")));
});

test("names that are none fail before any request", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const { host } = registry;
  for (const [ref, message] of [
    [`${host}/a/b`, /: object required$/],
    [`${host}/a/b@sha256:abc`, /invalid checksum digest length/],
    [`${host}/a/../b:t`, /^invalid reference/],
    ["/a/b:t", /hostname required$/],
  ] as const) {
    await assert.rejects(client.resolver.resolve(client.ctx, ref), {
      code: "invalid-argument",
      message,
    });
  }
  assert.equal(registry.requests.length, 0);
});

test("registries are not believed what cannot be: digests that are none, manifests too large", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const ref = `${registry.host}/a/b:t`;
  const resolve = () => client.resolver.resolve(client.ctx, ref);
  const size = { "content-length": "5" };
  registry.rule({
    match: /^HEAD/,
    times: 1,
    answer: status(200, { "docker-content-digest": "sha256:zz", ...size }),
  });
  await assert.rejects(resolve(), { message: /"sha256:zz" in header not a valid digest: / });
  const huge = { "docker-content-digest": digestOf("x"), "content-length": "5000000" };
  registry.rule({ match: /^HEAD/, times: 1, answer: status(200, huge) });
  await assert.rejects(resolve(), {
    code: "not-found",
    message: `rejecting 5000000 byte manifest for ${ref}: not found`,
  });
  registry.rule({ match: /^HEAD/, answer: status(200, { "transfer-encoding": "chunked" }) });
  registry.rule({ match: /^GET/, answer: endless });
  await assert.rejects(resolve(), { code: "not-found", message: /^rejecting \d+ byte manifest/ });
  const schema1 = { "content-type": "text/plain" };
  registry.rule({ match: /^(HEAD|GET)/, answer: status(200, schema1, "{}") });
  await assert.rejects(resolve(), { code: "not-implemented", message: /no longer supported/ });
});

test("refusals say why, and the one that got furthest is told", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const ref = `${registry.host}/a/b:t`;
  const resolve = () => client.resolver.resolve(client.ctx, ref);
  await assert.rejects(resolve(), { code: "not-found", message: `${ref}: not found` });
  const errors = [{ code: "DENIED", message: "key vault access denied", detail: "ask them" }];
  registry.rule({ match: /^GET/, answer: status(403, {}, JSON.stringify({ errors })) });
  registry.rule({ match: /^HEAD/, answer: status(403) });
  await assert.rejects(resolve(), {
    code: "permission-denied",
    message:
      `unexpected status from HEAD request to http://${registry.host}/v2/a/b/manifests/t: ` +
      "403 Forbidden: denied: key vault access denied: ask them",
  });
  registry.rule({ match: /^GET/, answer: status(200, {}, "secret page") });
  await assert.rejects(resolve(), { message: /403 Forbidden$/ });
  const wants = "Client sent an HTTP request to an HTTPS server.\n";
  registry.rule({ match: /./, answer: status(400, {}, wants) });
  await assert.rejects(resolve(), { message: /the server wants TLS \(say "https:/ });
});

test("what lies between says what to look at", async () => {
  await using client = startClient({ defaultScheme: "http" });
  const resolve = (host: string) => client.resolver.resolve(client.ctx, `${host}/a/b:t`);
  const listener = createServer((socket) => void socket.destroy()).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  const port = typeof address === "object" ? address?.port : 0;
  await assert.rejects(resolve(`127.0.0.1:${port}`), {
    code: "unavailable",
    message: /^failed to do request: Head "http:\/\/127.*": unexpected EOF/,
  });
  listener.close();
  await once(listener, "close");
  await assert.rejects(resolve(`127.0.0.1:${port}`), {
    code: "unavailable",
    message: /: dial tcp 127\.0\.0\.1:\d+: connect: connection refused$/,
  });
  await assert.rejects(resolve("registry.invalid"), {
    code: "unavailable",
    message: /: dial tcp: lookup registry\.invalid: (no such host|temporary failure in name)/,
  });
});

test("referrers by the API, and by the tag where there is none", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const fetcher = await client.resolver.fetcher(client.ctx, `${registry.host}/a/b:t`);
  const subject = digestOf("subject");
  const get = (artifactTypes?: readonly string[]) =>
    fetcher.referrers(client.ctx, subject, { artifactTypes, filters: { x: "y" } });
  assert.deepEqual(await get(), []);
  const one = (artifactType: string) => ({
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: digestOf(artifactType),
    size: 1,
    artifactType,
  });
  const index = { mediaType: "application/vnd.oci.image.index.v1+json", manifests: [one("a")] };
  registry.addManifest("a/b", index, subject.replace(":", "-"));
  assert.deepEqual(
    (await get()).map(({ artifactType }) => artifactType),
    ["a"],
  );
  const both = JSON.stringify({ ...index, manifests: [one("a"), one("b")] });
  registry.rule({ match: /\/referrers\//, answer: status(200, {}, both) });
  assert.deepEqual(
    (await get(["b"])).map(({ digest }) => digest),
    [digestOf("b")],
  );
  assert.match(registry.lines().at(-1) ?? "", /\/referrers\/sha256:\w+\?artifactType=b&x=y 200$/);
  registry.rule({ match: /\/referrers\//, answer: status(200, {}, `${both} more`) });
  await assert.rejects(get(), { message: /^failed to decode referrers index: / });
  registry.rule({
    match: /\/referrers\//,
    answer: status(200, {}, '{"manifests":[{"digest":"x"}]}'),
  });
  await assert.rejects(get(), { code: "unavailable" });
  registry.rule({ match: /\/referrers\//, answer: endless });
  await assert.rejects(get(), { code: "not-found", message: /exceeds maximum allowed/ });
});

test("a referrers API that fails is no list of nothing; one that is not there is", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const fetcher = await client.resolver.fetcher(client.ctx, `${registry.host}/a/b:t`);
  const subject = digestOf("subject");
  const get = () => fetcher.referrers(client.ctx, subject);
  for (const [answer, code] of [
    [status(401), "unauthenticated"],
    [status(403), "permission-denied"],
    [status(429, { "retry-after": "60" }), "resource-exhausted"],
    [status(500), "unavailable"],
    [hangUp, "unavailable"],
  ] as const) {
    registry.rule({ match: /\/referrers\//, answer });
    await assert.rejects(get(), { code });
  }
  for (const code of [400, 405, 501]) {
    registry.rule({ match: /\/referrers\//, answer: status(code) });
    assert.deepEqual(await get(), []);
  }
  // What the tag says is taken, whatever has become of the API.
  registry.rule({ match: /\/referrers\//, answer: status(403) });
  const index = { mediaType: "application/vnd.oci.image.index.v1+json", manifests: [] };
  registry.addManifest("a/b", index, subject.replace(":", "-"));
  assert.deepEqual(await get(), []);
  registry.rule({ match: /\/manifests\//, answer: status(500) });
  await assert.rejects(get(), { code: "permission-denied" });
});

test("tags and repositories page by page, from the same server only", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const { ctx, resolver } = client;
  const page = (body: object, link?: string) =>
    status(200, link === undefined ? {} : { link }, JSON.stringify(body));
  const next = '</v2/a/b/tags/list?last=2&n=2>; rel="next"';
  registry.rule({ match: /tags\/list\?n=/, answer: page({ tags: ["1", "2"] }, next) });
  registry.rule({ match: /tags\/list\?last=2/, answer: page({ tags: ["3"] }) });
  assert.deepEqual(await Array.fromAsync(resolver.tags(ctx, `${registry.host}/a/b`)), [
    "1",
    "2",
    "3",
  ]);
  const away = '<http://127.0.0.1:1/v2/_catalog>; rel="next"';
  registry.rule({ match: /_catalog/, answer: page({ repositories: ["a/b"] }, away) });
  assert.deepEqual(await Array.fromAsync(resolver.repositories(ctx, registry.host)), ["a/b"]);
  registry.rule({ match: /tags/, answer: page({ tags: [1] }) });
  await assert.rejects(Array.fromAsync(resolver.tags(ctx, `${registry.host}/a/b`)), {
    code: "unavailable",
  });
  registry.rule({ match: /tags/, answer: status(404) });
  await assert.rejects(Array.fromAsync(resolver.tags(ctx, `${registry.host}/a/b`)), {
    code: "not-found",
  });
});

test("removal by digest, by tag, and by what a tag stands for", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const { ctx, resolver } = client;
  const { digest } = registry.addManifest("a/b", { layers: [] }, "t");
  await resolver.remove(ctx, `${registry.host}/a/b:t`);
  assert.deepEqual([...registry.manifests.keys()], [`a/b ${digest}`]);
  await resolver.remove(ctx, `${registry.host}/a/b@${digest}`);
  await assert.rejects(resolver.remove(ctx, `${registry.host}/a/b:t`), { code: "not-found" });
  registry.addManifest("a/b", { layers: [] }, "t");
  registry.rule({ match: /^DELETE .*\/t$/, answer: status(405) });
  await resolver.remove(ctx, `${registry.host}/a/b:t`);
  assert.deepEqual([...registry.manifests.keys()], ["a/b t"]);
  registry.rule({ match: /^DELETE/, answer: status(405) });
  await assert.rejects(resolver.remove(ctx, `${registry.host}/a/b:t`), { code: "not-implemented" });
});
