import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { credentialsFrom, staticCredentials } from "#core/remotes/credentials.ts";
import { collect, startClient } from "#test/integration/remotes/client.ts";
import { type FaultRegistry, startFaultRegistry } from "#test/support/registry/fault-registry.ts";
import { redirect, status } from "#test/support/registry/fault-server.ts";
import { requireToken, startTokenServer } from "#test/support/registry/fault-token-server.ts";

const scope = "repository:a/b:pull";
const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString("base64")}`;

function image(registry: FaultRegistry) {
  const layer = Buffer.from("some layer");
  const digest = registry.addBlob(layer);
  const { digest: manifest } = registry.addManifest("a/b", { layers: [digest] }, "t");
  return { ref: `${registry.host}/a/b:t`, manifest, layer, digest };
}

test("an anonymous token is fetched once for whatever is asked at once", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer();
  const { ref, manifest } = image(registry);
  requireToken(registry, tokens, scope);
  await using client = startClient();
  const resolveAll = Array.from({ length: 8 }, () => client.resolver.resolve(client.ctx, ref));
  const [resolved] = await Promise.all(resolveAll);
  assert.equal(resolved?.descriptor.digest, manifest);
  const fetcher = await client.resolver.fetcher(client.ctx, ref);
  const { descriptor } = resolved;
  await Promise.all(
    Array.from({ length: 8 }, () => collect(fetcher.fetch(client.ctx, descriptor))),
  );
  assert.equal(tokens.seen.length, 1);
  assert.deepEqual(tokens.seen[0], {
    method: "GET",
    authorization: undefined,
    parameters: { service: "registry.test", scope },
    scopes: [scope],
  });
});

test("a user's token comes by POST, and by GET where the server does not take a POST", async () => {
  const user = "me:s3cret";
  for (const postStatus of [undefined, 400, 401, 404, 405]) {
    await using registry = await startFaultRegistry();
    await using tokens = await startTokenServer({ user, ...(postStatus && { postStatus }) });
    const { ref } = image(registry);
    requireToken(registry, tokens, scope);
    const credentials = staticCredentials(registry.host, { username: "me", secret: "s3cret" }, "x");
    await using client = startClient({ credentials });
    await client.resolver.resolve(client.ctx, ref);
    assert.deepEqual(tokens.seen[0]?.parameters, {
      scope,
      service: "registry.test",
      client_id: "containerd-client",
      grant_type: "password",
      username: "me",
      password: "s3cret",
    });
    const last = tokens.seen.at(-1);
    assert.equal(last?.method, postStatus === undefined ? "POST" : "GET", String(postStatus));
    assert.equal(last?.authorization, postStatus === undefined ? undefined : basic(user));
    assert.ok(!client.log.join("\n").includes("s3cret"), "the log has the password");
    assert.ok(!client.log.join("\n").includes("token-"), "the log has a token");
  }
});

test("any other refusal of a POST is told, and not the secret", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer({ user: "me:s3cret", postStatus: 403 });
  const { ref } = image(registry);
  requireToken(registry, tokens, scope);
  const credentials = staticCredentials(registry.host, { username: "me", secret: "s3cret" }, "x");
  await using client = startClient({ credentials });
  await assert.rejects(client.resolver.resolve(client.ctx, ref), (error) => {
    assert.ok(error instanceof Error);
    assert.match(error.message, /failed to fetch oauth token: unexpected status from POST .* 403/);
    assert.ok(!JSON.stringify([error.message, error.stack]).includes("s3cret"));
    return true;
  });
  assert.equal(tokens.seen.length, 1);
});

test("an identity token is exchanged, and never sent by GET after a 405", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer({ identityToken: "idt" });
  const { ref } = image(registry);
  requireToken(registry, tokens, scope);
  const credentials = staticCredentials(registry.host, { username: "", secret: "idt" }, "x");
  await using client = startClient({ credentials });
  await client.resolver.resolve(client.ctx, ref);
  const { parameters } = tokens.seen[0] ?? {};
  assert.equal(parameters?.["grant_type"], "refresh_token");
  assert.equal(parameters?.["refresh_token"], "idt");
  tokens.rule({ match: /^POST/, answer: status(405) });
  await using later = startClient({ credentials });
  await assert.rejects(later.resolver.resolve(later.ctx, ref), { message: /405 Method Not/ });
  assert.ok(tokens.seen.every(({ method }) => method === "POST"));
});

test("token or access_token, and a new one when it has expired", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer();
  const { ref } = image(registry);
  requireToken(registry, tokens, scope);
  tokens.answer.field = "access_token";
  tokens.answer.expiresIn = 0.000_001;
  await using client = startClient();
  const fetcher = await client.resolver.fetcher(client.ctx, ref);
  const { descriptor } = await client.resolver.resolve(client.ctx, ref);
  for (let i = 0; i < 3; i++) await collect(fetcher.fetch(client.ctx, descriptor));
  assert.ok(tokens.seen.length >= 4, `${tokens.seen.length} tokens`);
});

test("answers without a usable token are refused", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer();
  const { ref } = image(registry);
  requireToken(registry, tokens, scope);
  await using client = startClient();
  for (const [body, message] of [
    ["{}", /did not include a token/],
    ['{"token": null}', /did not include a token/],
    ['{"token": 7}', /unable to decode token response/],
    ['{"token": "a\\r\\nx-evil: b"}', /is no token/],
    ["<html>", /unable to decode token response/],
  ] as const) {
    tokens.rule({ match: /./, times: 1, answer: status(200, {}, body) });
    await assert.rejects(client.resolver.resolve(client.ctx, ref), { message });
  }
});

test("a token that is called invalid is replaced once, then access is denied", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer();
  const { ref } = image(registry);
  requireToken(registry, tokens, scope);
  await using client = startClient();
  const fetcher = await client.resolver.fetcher(client.ctx, ref);
  const { descriptor } = await client.resolver.resolve(client.ctx, ref);
  await collect(fetcher.fetch(client.ctx, descriptor));
  const invalid = { "www-authenticate": tokens.challenge(scope, "invalid_token") };
  const before = tokens.seen.length;
  registry.rule({ match: /./, times: 1, answer: status(401, invalid) });
  await collect(fetcher.fetch(client.ctx, descriptor));
  assert.equal(tokens.seen.length, before + 1);
  registry.rule({ match: /./, answer: status(401, invalid) });
  await assert.rejects(client.resolver.resolve(client.ctx, ref), {
    code: "unauthenticated",
    message:
      "pull access denied, repository does not exist or may require authorization: " +
      "server message: invalid_token: authorization failed",
  });
});

test("basic: the user is sent after the challenge, and a wrong one only once", async () => {
  await using registry = await startFaultRegistry();
  const { ref } = image(registry);
  const challenge = status(401, { "www-authenticate": 'Basic realm="r"' });
  const isWrong = (authorization: string | undefined): boolean =>
    authorization !== basic("me:right");
  registry.rule({
    match: /./,
    when: ({ headers }) => isWrong(headers.authorization),
    answer: challenge,
  });
  const as = (secret: string) =>
    startClient({ credentials: staticCredentials(registry.host, { username: "me", secret }, "x") });
  await using right = as("right");
  await right.resolver.resolve(right.ctx, ref);
  assert.equal(registry.requests[0]?.headers.authorization, undefined);
  await using wrong = as("wrong");
  const before = registry.requests.length;
  await assert.rejects(wrong.resolver.resolve(wrong.ctx, ref), { code: "unauthenticated" });
  assert.equal(registry.requests.length - before, 2);
  await using nobody = startClient();
  await assert.rejects(nobody.resolver.resolve(nobody.ctx, ref), {
    message: /authorization failed: no basic auth credentials$/,
  });
});

test("a header given instead of a user is sent as it is", async () => {
  await using registry = await startFaultRegistry();
  const { ref } = image(registry);
  registry.rule({
    match: /./,
    when: ({ headers }) => headers.authorization !== "Bearer mine",
    answer: status(401, { "www-authenticate": 'Bearer realm="http://127.0.0.1:1/"' }),
  });
  const header = { username: "", secret: "", header: "Bearer mine" };
  await using client = startClient({ credentials: staticCredentials(registry.host, header, "x") });
  await client.resolver.resolve(client.ctx, ref);
});

test("CVE-2020-15157: a URL in a manifest gets no credentials, nor does the realm it names", async () => {
  await using registry = await startFaultRegistry();
  await using evil = await startTokenServer();
  await using foreign = await startFaultRegistry();
  const { ref, layer, digest } = image(registry);
  requireToken(foreign, evil, scope);
  const asked: string[] = [];
  const credentials = credentialsFrom("x", (_ctx, host) => {
    asked.push(host);
    return Promise.resolve({ username: "me", secret: "s3cret" });
  });
  const headers = { authorization: ["Basic s3cret"], cookie: ["s3cret"], "x-mine": ["1"] };
  await using client = startClient({ credentials, headers });
  const fetcher = await client.resolver.fetcher(client.ctx, ref);
  const descriptor = {
    mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar",
    digest: digest as never, // -- made by the registry above
    sizeBytes: layer.length,
    annotations: {},
    urls: ["ftp://x/y", "nonsense", `http://u:s3cret@${foreign.host}/v2/a/b/blobs/${digest}`],
  };
  assert.deepEqual(await collect(fetcher.fetch(client.ctx, descriptor)), layer);
  assert.equal(foreign.requests.length, 1, "it is asked once, and its challenge is not answered");
  assert.ok(!JSON.stringify(foreign.requests).includes("s3cret"));
  assert.equal(evil.requests.length, 0);
  assert.deepEqual(asked, []);
});

test("a redirect takes no credentials to another host, and back to none", async () => {
  await using registry = await startFaultRegistry();
  await using storage = await startFaultRegistry();
  const { ref, layer, digest } = image(registry);
  storage.addBlob(layer);
  const target = `/v2/a/b/blobs/${digest}`;
  registry.rule({
    match: /^GET .*blobs/,
    answer: redirect(`http://u:p@${storage.host}${target}?X-Signature=s1gned`),
  });
  registry.rule({
    match: /./,
    when: ({ headers }) => headers.authorization === undefined,
    answer: status(401, { "www-authenticate": "Basic" }),
  });
  const credentials = staticCredentials(registry.host, { username: "me", secret: "s3cret" }, "x");
  const headers = { "x-secret": ["s3cret"] };
  await using client = startClient({ credentials, headers });
  const fetcher = await client.resolver.fetcher(client.ctx, ref);
  const descriptor = {
    mediaType: "layer",
    digest: digest as never, // -- made by the registry above
    sizeBytes: layer.length,
    annotations: {},
  };
  assert.deepEqual(
    await collect(fetcher.fetch(client.ctx, descriptor, { offset: 1 })),
    layer.subarray(1),
  );
  const sent = storage.requests[0]?.headers ?? {};
  assert.equal(sent.authorization, undefined);
  assert.equal(sent["x-secret"], undefined);
  assert.equal(sent.range, "bytes=1-");
  assert.equal(registry.requests.at(-1)?.headers["x-secret"], "s3cret");
  assert.ok(!client.log.join("\n").includes("s1gned"), "the log has a signature");
  // And one that wants a user is told none.
  storage.rule({ match: /./, answer: status(401, { "www-authenticate": "Basic" }) });
  await assert.rejects(collect(fetcher.fetch(client.ctx, descriptor)), { code: "unauthenticated" });
  assert.ok(storage.requests.every((request) => request.headers.authorization === undefined));
});

test("what is configured for a host does not follow its token server elsewhere", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer();
  const { ref } = image(registry);
  requireToken(registry, tokens, scope, /^\w+ \/v2\//);
  const challenge = `Bearer realm="${registry.origin}/token",scope="${scope}"`;
  registry.rule({
    match: /^\w+ \/v2\//,
    when: ({ headers }) => headers.authorization === undefined,
    answer: status(401, { "www-authenticate": challenge }),
  });
  registry.rule({ match: /^GET \/token/, answer: redirect(tokens.realm) });
  await using dir = await mkdtempDisposable(join(tmpdir(), "hosts-"));
  await mkdir(join(dir.path, registry.host));
  const config = `server = "${registry.origin}"\n[header]\nx-secret = "s3cret"\n`;
  await writeFile(join(dir.path, registry.host, "hosts.toml"), config);
  await using client = startClient({ roots: [dir.path] });
  await client.resolver.resolve(client.ctx, ref);
  const asked = registry.requests.find(({ target }) => target.startsWith("/token"));
  assert.equal(asked?.headers["x-secret"], "s3cret");
  assert.equal(tokens.requests.length, 1);
  assert.equal(tokens.requests[0]?.headers["x-secret"], undefined);
});

test("a configured authorization gives way to the user's at a token server too", async () => {
  await using registry = await startFaultRegistry();
  const { ref } = image(registry);
  const challenge = `Bearer realm="${registry.origin}/token",scope="${scope}"`;
  registry.rule({
    match: /^\w+ \/v2\//,
    when: ({ headers }) => !/^Bearer abc$/.test(headers.authorization ?? ""),
    answer: status(401, { "www-authenticate": challenge }),
  });
  registry.rule({ match: /^POST \/token/, answer: status(405) });
  const body = '{"access_token":"abc","token":null,"expires_in":null}';
  registry.rule({ match: /^GET \/token/, answer: status(200, {}, body) });
  await using dir = await mkdtempDisposable(join(tmpdir(), "hosts-"));
  await mkdir(join(dir.path, registry.host));
  const fields = 'authorization = "Basic other"\ncontent-type = "text/plain"\n';
  const config = `server = "${registry.origin}"\n[header]\n${fields}`;
  await writeFile(join(dir.path, registry.host, "hosts.toml"), config);
  const credentials = staticCredentials(registry.host, { username: "me", secret: "s3cret" }, "x");
  await using client = startClient({ roots: [dir.path], credentials });
  await client.resolver.resolve(client.ctx, ref);
  const [post, get] = registry.requests.filter(({ target }) => target.startsWith("/token"));
  assert.match(post?.headers["content-type"] ?? "", /^application\/x-www-form-urlencoded/);
  assert.equal(get?.headers.authorization, basic("me:s3cret"));
});

test("a host that one is redirected to may ask for a token that anybody gets", async () => {
  await using registry = await startFaultRegistry();
  await using storage = await startFaultRegistry();
  await using tokens = await startTokenServer();
  const { ref, manifest } = image(registry);
  image(storage);
  requireToken(storage, tokens, scope);
  registry.rule({ match: /./, answer: redirect(`http://${storage.host}/v2/a/b/manifests/t`) });
  const credentials = staticCredentials(registry.host, { username: "me", secret: "s3cret" }, "x");
  await using client = startClient({ credentials });
  const { descriptor } = await client.resolver.resolve(client.ctx, ref);
  assert.equal(descriptor.digest, manifest);
  assert.deepEqual(
    tokens.seen.map(({ method }) => method),
    ["GET"],
  );
  assert.equal(tokens.seen[0]?.authorization, undefined);
});

test("a challenge without a realm, or of an unknown scheme, is no way in", async () => {
  await using registry = await startFaultRegistry();
  const { ref } = image(registry);
  await using client = startClient();
  for (const [challenge, message] of [
    ["Bearer scope=x", /no realm specified for token auth challenge/],
    ['Bearer realm="file:///etc/passwd"', /invalid token auth challenge realm/],
    ["Negotiate", /unexpected status from HEAD request to .*: 401 Unauthorized$/],
  ] as const) {
    registry.rule({ match: /./, answer: status(401, { "www-authenticate": challenge }) });
    await assert.rejects(client.resolver.resolve(client.ctx, ref), {
      code: "unauthenticated",
      message,
    });
  }
});
