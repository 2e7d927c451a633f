import assert from "node:assert/strict";
import { test } from "node:test";
import { criCredentials, isConfigured, parseCriRegistry } from "#core/remotes/cri-registry.ts";
import { planHosts } from "#core/remotes/hosts.ts";
import { Context } from "#pkg/context.ts";

const ctx = Context.background();

const registry = parseCriRegistry({
  config_path: "",
  mirrors: {
    "docker.io": { endpoint: ["https://mirror.example", "http://127.0.0.1:5000/v2/hub"] },
    "own.example": { endpoint: ["https://m.example", "https://own.example"] },
    "*": { endpoint: ["any.example", "localhost:5001"] },
  },
  configs: {
    "mirror.example": {
      auth: { username: "me", password: "s3cret" },
      tls: { ca_file: "/ca.pem", cert_file: "/c.pem", key_file: "/k.pem" },
    },
    "m.example": { tls: { insecure_skip_verify: true } },
  },
  auths: {
    "https://index.docker.io/v1/": { auth: Buffer.from("hub:pw").toString("base64") },
    "https://any.example": { identitytoken: "idt" },
  },
});

async function shown(namespace: string): Promise<readonly string[]> {
  const hosts = await planHosts(ctx, namespace, { cri: registry, roots: ["/nowhere"] });
  return hosts.map(({ scheme, host, path, capabilities }) =>
    [`${scheme}://${host}${path}`, ...(capabilities.includes("push") ? ["push"] : [])].join(" "),
  );
}

test("mirrors come before the registry, which comes unless it is one of them", async () => {
  assert.deepEqual(await shown("docker.io"), [
    "https://mirror.example/v2",
    "http://127.0.0.1:5000/v2/hub",
    "https://registry-1.docker.io/v2 push",
  ]);
  assert.deepEqual(await shown("own.example"), [
    "https://m.example/v2",
    "https://own.example/v2 push",
  ]);
  assert.deepEqual(await shown("other.example:5000"), [
    "https://any.example/v2",
    "http://localhost:5001/v2",
    "https://other.example:5000/v2 push",
  ]);
});

test("TLS is that of the host", async () => {
  const [mirror, , hub] = await planHosts(ctx, "docker.io", { cri: registry });
  assert.deepEqual(mirror?.tls, {
    caFiles: ["/ca.pem"],
    clientPairs: [{ cert: "/c.pem", key: "/k.pem" }],
    skipVerify: false,
  });
  assert.equal(hub?.tls.skipVerify, false);
  const [own] = await planHosts(ctx, "own.example", { cri: registry });
  assert.equal(own?.tls.skipVerify, true);
});

test("credentials are those of the host, by its name or URL", async () => {
  const source = criCredentials(registry);
  assert.deepEqual(await source.get(ctx, "mirror.example"), { username: "me", secret: "s3cret" });
  assert.deepEqual(await source.get(ctx, "registry-1.docker.io"), {
    username: "hub",
    secret: "pw",
  });
  assert.deepEqual(await source.get(ctx, "any.example"), { username: "", secret: "idt" });
  assert.equal(await source.get(ctx, "m.example"), undefined);
  const from = 'configs."mirror.example" of the registry of the CRI configuration';
  assert.equal(await source.describe(ctx, "mirror.example"), from);
  assert.equal(await source.describe(ctx, "m.example"), undefined);
});

test("nothing said is nothing configured, and what is malformed is named, not quoted", async () => {
  assert.ok(isConfigured(registry));
  assert.ok(!isConfigured(parseCriRegistry({ config_path: "/x", headers: {} })));
  assert.throws(() => parseCriRegistry({ configs: { h: { auth: { password: ["s3cret"] } } } }), {
    code: "invalid-argument",
    message: "registry of the CRI configuration: configs.h.auth.password: string is expected",
  });
  const broken = parseCriRegistry({
    mirrors: { a: { endpoint: ["ftp://me:s3cret@x"] } },
    auths: { b: { auth: "!" } },
  });
  await assert.rejects(planHosts(ctx, "a", { cri: broken }), {
    message: 'registry of the CRI configuration: mirrors."a".endpoint: "ftp://xxxxx@x" is no URL',
  });
  await assert.rejects(criCredentials(broken).get(ctx, "b"), { code: "failed-precondition" });
});
