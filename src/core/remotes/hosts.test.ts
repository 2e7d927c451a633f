import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { staticCredentials } from "#core/remotes/credentials.ts";
import { configuredHosts, type HostsOptions, planHosts, rootsOf } from "#core/remotes/hosts.ts";
import { explainHosts } from "#core/remotes/hosts-explain.ts";
import { proxyFromEnvironment } from "#core/remotes/proxy-environment.ts";
import { Context } from "#pkg/context.ts";

const ctx = Context.background();

async function shown(namespace: string, options: HostsOptions = {}): Promise<readonly string[]> {
  const hosts = await planHosts(ctx, namespace, options);
  return hosts.map(({ scheme, host, path, tls, fallsBack }) =>
    [
      `${scheme}://${host}${path}`,
      ...(tls.skipVerify ? ["unverified"] : []),
      ...(fallsBack ? ["or http"] : []),
    ].join(" "),
  );
}

async function configured(files: Readonly<Record<string, string>>) {
  const dir = await mkdtempDisposable(`${tmpdir()}/hosts-`);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(`${dir.path}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await writeFile(`${dir.path}/${path}`, text);
  }
  return dir;
}

test("without configuration: TLS, Docker Hub by its own host, this machine also without TLS", async () => {
  const cases: Readonly<Record<string, string>> = {
    "docker.io": "https://registry-1.docker.io/v2",
    "reg.example": "https://reg.example/v2",
    "reg.example:5000": "https://reg.example:5000/v2",
    "localhost:5000": "https://localhost:5000/v2 unverified or http",
    "127.0.0.1:5000": "https://127.0.0.1:5000/v2 unverified or http",
    "[::1]:5000": "https://[::1]:5000/v2 unverified or http",
    localhost: "https://localhost/v2 unverified",
    "localhost:443": "https://localhost:443/v2 unverified",
    "localhost:80": "http://localhost:80/v2",
    "127.0.0.1.example:5000": "https://127.0.0.1.example:5000/v2",
  };
  for (const [namespace, expected] of Object.entries(cases)) {
    assert.deepEqual(await shown(namespace), [expected], namespace);
  }
  await assert.rejects(shown(""), { code: "invalid-argument" });
});

test("what is no host is refused as such", async () => {
  const client = async () => ({ send: () => Promise.reject(new Error("not asked for")) });
  const hosts = configuredHosts({ client }, {});
  for (const host of ["reg.example:99999", "1.2.3.4.5", "\u{2ee5e}"]) {
    const problem = { code: "invalid-argument", message: /^registry host ".*" is no host/ };
    await assert.rejects(hosts(ctx, host), problem, host);
  }
});

test("a default scheme is for what is not configured", async () => {
  const http = { defaultScheme: "http" } as const;
  assert.deepEqual(await shown("reg.example", http), ["http://reg.example/v2"]);
  assert.deepEqual(await shown("localhost:5000", http), ["http://localhost:5000/v2"]);
  assert.deepEqual(await shown("docker.io", http), ["https://registry-1.docker.io/v2"]);
  const defaultTls = { caFiles: [], clientPairs: [], skipVerify: true };
  assert.deepEqual(await shown("localhost:8080", { ...http, defaultTls }), [
    "https://localhost:8080/v2 unverified or http",
  ]);
  assert.deepEqual(await shown("localhost:80", { ...http, defaultTls }), [
    "http://localhost:80/v2 unverified",
  ]);
});

test("directories: h_port_, then h:port, then _default; the first root that has one", async () => {
  await using first = await configured({
    "a.example_5000_/hosts.toml": '[host."underscored"]',
    "a.example:5000/hosts.toml": '[host."colon"]',
    "b.example:5000/hosts.toml": '[host."colon"]',
  });
  await using second = await configured({ "_default/hosts.toml": '[host."any"]' });
  const roots = [`${first.path}/absent`, first.path, second.path];
  const hosts = async (namespace: string) => (await shown(namespace, { roots }))[0];
  assert.equal(await hosts("a.example:5000"), "https://underscored/v2");
  assert.equal(await hosts("b.example:5000"), "https://colon/v2");
  assert.equal(await hosts("c.example"), "https://any/v2");
});

test("configuration is read again each time", async () => {
  await using dir = await configured({ "r.example/hosts.toml": 'server = "one"' });
  const options = { roots: [dir.path] };
  assert.deepEqual(await shown("r.example", options), ["https://one/v2"]);
  await writeFile(`${dir.path}/r.example/hosts.toml`, 'server = "http://two"');
  assert.deepEqual(await shown("r.example", options), ["http://two/v2"]);
  await rm(`${dir.path}/r.example`, { recursive: true });
  assert.deepEqual(await shown("r.example", options), ["https://r.example/v2"]);
});

test("the registry itself comes last, with what the top of the file says", async () => {
  await using dir = await configured({
    "localhost:5000/hosts.toml": 'skip_verify = false\n[host."http://m"]\nskip_verify = true',
    "docker.io/hosts.toml": '[host."https://m/v2/x"]\noverride_path = true\n[header]\na = "b"',
  });
  assert.deepEqual(await shown("localhost:5000", { roots: [dir.path] }), [
    "https://m/v2 unverified or http",
    "https://localhost:5000/v2 or http",
  ]);
  const hub = await planHosts(ctx, "docker.io", { roots: [dir.path] });
  assert.deepEqual(
    hub.map(({ host }) => host),
    ["m", "registry-1.docker.io"],
  );
  assert.deepEqual(hub[1]?.headers, { a: ["b"] });
});

test("a hosts.toml that cannot be understood stops everything for its registry", async () => {
  await using dir = await configured({
    "r.example/hosts.toml": "server = ",
    "r.example/a.crt": "",
  });
  await assert.rejects(shown("r.example", { roots: [dir.path] }), {
    code: "invalid-argument",
    message: new RegExp(`^${dir.path}/r\\.example/hosts\\.toml: line 1`),
  });
});

test("Docker's layout of certificates", async () => {
  await using dir = await configured({
    "r.example/ca.crt": "",
    "r.example/client.cert": "",
    "r.example/client.key": "",
    "r.example/whole.cert": "",
    "localhost:5000/ca.crt": "",
    "empty.example/hosts.toml": "",
  });
  const roots = [dir.path];
  const [host] = await planHosts(ctx, "r.example", { roots });
  const at = (name: string): string => `${dir.path}/r.example/${name}`;
  assert.deepEqual(host?.tls, {
    caFiles: [at("ca.crt")],
    clientPairs: [{ cert: at("client.cert"), key: at("client.key") }, { cert: at("whole.cert") }],
    skipVerify: false,
  });
  assert.deepEqual(await shown("localhost:5000", { roots }), ["https://localhost:5000/v2 or http"]);
  assert.deepEqual(await shown("empty.example", { roots }), ["https://empty.example/v2"]);
});

test("explain() tells hosts, order and sources, and no secret", async () => {
  await using dir = await configured({
    "docker.io/hosts.toml":
      '[host."http://mirror:5000"]\ncapabilities = ["pull"]\n' +
      '[host."http://mirror:5000".header]\nauthorization = "Basic s3cret"\n',
  });
  const options = {
    roots: [dir.path],
    credentials: staticCredentials("docker.io", { username: "me", secret: "s3cret" }, "--user"),
    proxyFor: proxyFromEnvironment({ HTTPS_PROXY: "http://u:s3cret@proxy:3128" }),
  };
  const explained = await explainHosts(ctx, "docker.io/library/redis:7", options);
  assert.ok(!JSON.stringify(explained).includes("s3cret"));
  const file = `${dir.path}/docker.io/hosts.toml`;
  assert.deepEqual(explained, [
    {
      url: "http://mirror:5000/v2",
      capabilities: ["pull"],
      resolves: false,
      tls: "none",
      credentials: undefined,
      headers: ["authorization"],
      proxy: undefined,
      why: [
        file,
        "stands in for docker.io: asked with ns=docker.io",
        "may not resolve a tag: asked only for content of a known digest",
      ],
    },
    {
      url: "https://registry-1.docker.io/v2",
      capabilities: ["pull", "resolve", "push", "referrers"],
      resolves: true,
      tls: "verified; the system's authorities",
      credentials: "--user",
      headers: [],
      proxy: "http://proxy:3128",
      why: [file],
    },
  ]);
  const byDigest = await explainHosts(ctx, `docker.io/a@sha256:${"0".repeat(64)}`, options);
  assert.deepEqual(
    byDigest.map(({ resolves }) => resolves),
    [true, true],
  );
});

test("explain() tells of a proxy that cannot be used, and refuses what pulls refuse", async () => {
  const proxyFor = proxyFromEnvironment({ HTTPS_PROXY: "socks5://u:s3cret@proxy:1080" });
  const [host] = await explainHosts(ctx, "r.example/a:1", { proxyFor });
  assert.equal(host?.proxy, undefined);
  assert.match(host?.why.at(-1) ?? "", /^cannot be asked: HTTPS_PROXY is no URL of an http/);
  const invalid = {
    code: "invalid-argument",
    message: 'registry host "host:99999" is no host: invalid argument',
  };
  await assert.rejects(explainHosts(ctx, "host:99999/x:1", {}), invalid);
  assert.throws(() => rootsOf("certs.d"), {
    code: "invalid-argument",
    message: 'host_dir "certs.d" is not absolute: invalid argument',
  });
  assert.deepEqual(rootsOf("/etc/certs.d"), ["/etc/certs.d"]);
});
