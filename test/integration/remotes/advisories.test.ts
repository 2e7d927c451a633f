import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { credentialsFrom } from "#core/remotes/credentials.ts";
import { dockerConfigCredentials } from "#core/remotes/docker-config.ts";
import { digestOf } from "#pkg/digest.ts";
import { collect, startClient } from "#test/integration/remotes/client.ts";
import { endless, startFaultRegistry } from "#test/support/registry/fault-registry.ts";
import { status } from "#test/support/registry/fault-server.ts";

// What was found in clients of registries, in Docker's and others, and must not be found in this one.

const credentials = credentialsFrom("x", async () => ({ username: "me", secret: "s3cret" }));

test("CVE-2014-5277: a registry with TLS is not asked without, whatever answers in its place", async () => {
  await using registry = await startFaultRegistry();
  registry.addManifest("a/b", { layers: [] }, "t");
  await using dir = await mkdtempDisposable(join(tmpdir(), "hosts-"));
  const port = registry.host.split(":")[1];
  for (const [host, server] of [
    ["r.example", `https://${registry.host}`],
    ["s.example", registry.host],
  ] as const) {
    await mkdir(join(dir.path, host));
    await writeFile(join(dir.path, host, "hosts.toml"), `server = "${server}"\n`);
  }
  await using client = startClient({ roots: [dir.path], credentials });
  for (const host of ["r.example", "s.example"]) {
    const refused = client.resolver.resolve(client.ctx, `${host}/a/b:t`);
    await assert.rejects(refused, /server gave HTTP response to HTTPS client/);
  }
  assert.deepEqual(registry.requests, []);
  assert.ok(port !== undefined && registry.connections() > 0);
});

test("CVE-2014-8179: what is asked for by its digest is that, whatever the registry calls it", async () => {
  await using registry = await startFaultRegistry();
  const { digest } = registry.addManifest("a/b", { layers: [] });
  await using client = startClient();
  const other = digestOf("other");
  const answer = { "docker-content-digest": other, "content-length": "13" };
  registry.rule({ match: /^HEAD/, answer: status(200, answer) });
  const ref = `${registry.host}/a/b@${digest}`;
  const { descriptor } = await client.resolver.resolve(client.ctx, ref);
  assert.equal(descriptor.digest, digest);
});

test("CVE-2024-3727: a digest that is no digest does not become a path", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const { ctx, resolver } = client;
  const ref = `${registry.host}/a/b`;
  const size = { "content-length": "2" };
  for (const digest of [
    "sha256:../../../c/manifests/t",
    `sha256:${"A".repeat(64)}`,
    `sha256:${"a".repeat(64)}/../x`,
    `sha256/../x:${"a".repeat(64)}`,
    `SHA256:${"a".repeat(64)}`,
  ]) {
    const head = status(200, { "docker-content-digest": digest, ...size });
    registry.rule({ match: /^HEAD/, times: 1, answer: head });
    await assert.rejects(resolver.resolve(ctx, `${ref}:t`), { message: /not a valid digest/ });
    const before = registry.requests.length;
    await assert.rejects(resolver.resolve(ctx, `${ref}@${digest}`), { code: "invalid-argument" });
    const fetcher = await resolver.fetcher(ctx, `${ref}:t`);
    const manifests = [{ mediaType: "a", size: 1, digest }];
    const listed = status(200, {}, JSON.stringify({ manifests }));
    assert.equal(registry.requests.length, before);
    registry.rule({ match: /referrers/, times: 1, answer: listed });
    await assert.rejects(fetcher.referrers(ctx, digestOf("x")), { code: "unavailable" });
  }
});

test("CVE-2021-41092: where a helper cannot be asked, nobody else's credentials are sent", async () => {
  await using registry = await startFaultRegistry();
  const basic = { "www-authenticate": 'Basic realm="r"' };
  registry.rule({ match: /./, answer: status(401, basic) });
  await using dir = await mkdtempDisposable(join(tmpdir(), "docker-"));
  const file = join(dir.path, "config.json");
  const hub = { auth: Buffer.from("hub:s3cret").toString("base64") };
  const auths = { "https://index.docker.io/v1/": hub, "other.example": hub };
  await writeFile(file, JSON.stringify({ auths, credsStore: "missing" }));
  const programs = { run: () => assert.fail("there is no such program") };
  const helpers = { programs, env: { PATH: dir.path } };
  await using client = startClient({ credentials: dockerConfigCredentials({ file, helpers }) });
  await assert.rejects(client.resolver.resolve(client.ctx, `${registry.host}/a/b:t`), {
    message: /credential helper "docker-credential-missing" not in PATH/,
  });
  assert.ok(registry.requests.length > 0);
  for (const { headers } of registry.requests) assert.equal(headers.authorization, undefined);
});

test("a list without an end is refused", async () => {
  await using registry = await startFaultRegistry();
  await using client = startClient();
  const { ctx, resolver } = client;
  registry.rule({ match: /_catalog|tags/, answer: endless });
  for (const list of [
    resolver.tags(ctx, `${registry.host}/a/b`),
    resolver.repositories(ctx, registry.host),
  ]) {
    await assert.rejects(Array.fromAsync(list), { code: "unavailable", message: /is no list/ });
  }
});

test("M46: a URL of the registry's own gets its headers, one of another port or scheme does not", async () => {
  await using registry = await startFaultRegistry();
  await using other = await startFaultRegistry();
  const bytes = Buffer.from("layer");
  const digest = registry.addBlob(bytes);
  other.addBlob(bytes);
  const secrets = ["authorization", "proxy-authorization", "cookie", "cookie2"];
  const headers = Object.fromEntries([...secrets, "x-own"].map((name) => [name, ["s3cret"]]));
  await using client = startClient({ headers, defaultScheme: "http" });
  const fetcher = await client.resolver.fetcher(client.ctx, `${registry.host}/a/b:t`);
  const port = Number(registry.host.split(":")[1]);
  for (const [url, at, isOwn] of [
    [`${registry.origin}/v2/x/blobs/${digest}`, registry, true],
    [
      `${registry.origin.toUpperCase().replace("HTTP", "http")}/v2/x/blobs/${digest}`,
      registry,
      true,
    ],
    [`http://localhost:${port}/v2/x/blobs/${digest}`, registry, false],
    [`${other.origin}/v2/x/blobs/${digest}`, other, false],
  ] as const) {
    const before = at.requests.length;
    const descriptor = {
      mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar",
      digest: digestOf(bytes),
      sizeBytes: bytes.length,
      annotations: {},
      urls: [url],
    };
    assert.deepEqual(await collect(fetcher.fetch(client.ctx, descriptor)), bytes);
    const sent = at.requests[before]?.headers ?? {};
    assert.equal(sent["x-own"], "s3cret");
    for (const name of secrets)
      assert.equal(sent[name], isOwn ? "s3cret" : undefined, `${url} ${name}`);
  }
});
