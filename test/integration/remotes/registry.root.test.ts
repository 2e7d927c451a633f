import assert from "node:assert/strict";
import { createSign, randomBytes, randomUUID, X509Certificate } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { staticCredentials } from "#core/remotes/credentials.ts";
import type { RegistryResolver, RegistryResolverOptions } from "#core/remotes/resolver.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf } from "#pkg/digest.ts";
import {
  type Certificate,
  makeAuthority,
  makeCertificate,
} from "#test/integration/remotes/certificates.ts";
import { collect, startClient } from "#test/integration/remotes/client.ts";
import { startDebianRegistry } from "#test/integration/remotes/debian-registry.ts";
import { type FaultServer, startFaultServer, status } from "#test/support/registry/fault-server.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const ociManifest = "application/vnd.oci.image.manifest.v1+json";

function blob(bytes: Buffer, mediaType: string): { descriptor: Descriptor; bytes: Buffer } {
  const descriptor = {
    mediaType,
    digest: digestOf(bytes),
    sizeBytes: bytes.length,
    annotations: {},
  };
  return { descriptor, bytes };
}

const layer = blob(randomBytes(3_000_000), "application/vnd.oci.image.layer.v1.tar");
const config = blob(Buffer.from("{}"), "application/vnd.oci.image.config.v1+json");
const wire = ({ mediaType, digest, sizeBytes: size }: Descriptor): object => ({
  mediaType,
  digest,
  size,
});
const document = {
  schemaVersion: 2,
  mediaType: ociManifest,
  config: wire(config.descriptor),
  layers: [wire(layer.descriptor)],
};
const manifest = blob(Buffer.from(JSON.stringify(document)), ociManifest);

async function pushImage(ctx: Context, resolver: RegistryResolver, ref: string): Promise<string[]> {
  const pusher = await resolver.pusher(ctx, `${ref}@${manifest.descriptor.digest}`);
  const outcomes: string[] = [];
  for (const { descriptor, bytes } of [layer, config, manifest]) {
    const source = { stream: ({ offset = 0 } = {}) => chunks(bytes.subarray(offset)) };
    outcomes.push((await pusher.push(ctx, descriptor, source)).outcome);
  }
  return outcomes;
}

async function* chunks(bytes: Buffer): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 65_536) {
    await Promise.resolve();
    yield bytes.subarray(at, at + 65_536);
  }
}

async function pullLayer(ctx: Context, resolver: RegistryResolver, ref: string): Promise<void> {
  const { descriptor } = await resolver.resolve(ctx, ref);
  assert.deepEqual(descriptor, manifest.descriptor);
  const fetcher = await resolver.fetcher(ctx, ref);
  assert.deepEqual(await collect(fetcher.fetch(ctx, descriptor)), manifest.bytes);
  assert.deepEqual(await collect(fetcher.fetch(ctx, layer.descriptor)), layer.bytes);
}

roomTest("docker-registry: pushed, pulled, mounted, listed, removed", async (room) => {
  const registry = await startDebianRegistry(room);
  await using client = startClient();
  const { ctx, resolver } = client;
  const ref = `${registry.host}/a/b:t`;
  assert.deepEqual(await pushImage(ctx, resolver, ref), ["pushed", "pushed", "pushed"]);
  assert.deepEqual(await pushImage(ctx, resolver, ref), ["exists", "exists", "exists"]);
  await pullLayer(ctx, resolver, ref);
  const fetcher = await resolver.fetcher(ctx, ref);
  const from = { offset: 2_500_000 };
  const rest = await collect(fetcher.fetch(ctx, layer.descriptor, from));
  assert.deepEqual(rest, layer.bytes.subarray(2_500_000));
  const annotations = { "containerd.io/distribution.source.127.0.0.1": "a/b" };
  const pusher = await resolver.pusher(ctx, `${registry.host}/a/c:t`);
  const none = { stream: () => chunks(Buffer.alloc(0)) };
  assert.deepEqual(await pusher.push(ctx, { ...layer.descriptor, annotations }, none), {
    outcome: "mounted",
    mountedFrom: `${registry.host}/a/b`,
  });
  const found = await fetcher.fetchByDigest(ctx, config.descriptor.digest);
  assert.deepEqual(await collect(found.stream()), config.bytes);
  assert.deepEqual(await fetcher.referrers(ctx, manifest.descriptor.digest), []);
  assert.deepEqual(await Array.fromAsync(resolver.tags(ctx, ref)), ["t"]);
  const repositories = await Array.fromAsync(resolver.repositories(ctx, registry.host));
  assert.deepEqual(repositories, ["a/b", "a/c"]);
  await resolver.remove(ctx, ref);
  await assert.rejects(resolver.resolve(ctx, ref), { code: "not-found" });
});

roomTest("docker-registry: in chunks, and by ranges at once", async (room) => {
  const registry = await startDebianRegistry(room);
  const parallel = { connections: 4, chunkBytes: 256 << 10 };
  await using client = startClient({ uploadChunkBytes: 1 << 20, parallel });
  const ref = `${registry.host}/a/b:t`;
  await pushImage(client.ctx, client.resolver, ref);
  await pullLayer(client.ctx, client.resolver, ref);
  const log = await registry.log();
  assert.equal([...log.matchAll(/"PATCH \/v2\/a\/b\/blobs\/uploads\/.*" 202/g)].length, 4);
  const ranges = new RegExp(`"GET /v2/a/b/blobs/${layer.descriptor.digest}.*" 206`, "g");
  assert.equal([...log.matchAll(ranges)].length, 12);
});

roomTest("docker-registry: an upload whose connection breaks is finished", async (room) => {
  const registry = await startDebianRegistry(room);
  await using front = await startBreakingFront(registry.host);
  await using client = startClient({ defaultScheme: "http" });
  const ref = `${front.host}/a/b:t`;
  assert.deepEqual(await pushImage(client.ctx, client.resolver, ref), [
    "pushed",
    "pushed",
    "pushed",
  ]);
  const puts = front.lines().filter((line) => /^PUT .*uploads/.test(line));
  assert.ok(
    puts.some((line) => !line.endsWith(" 201")),
    puts.join("\n"),
  );
  await pullLayer(client.ctx, client.resolver, ref);
});

/** Passes requests on to a registry, and breaks the first upload in its middle. */
async function startBreakingFront(host: string): Promise<FaultServer> {
  let breaks = 1;
  return startFaultServer(async ({ request, response }) => {
    const { method = "", url = "", headers } = request;
    const isUpload = method === "PUT" && url.includes("/uploads/");
    const isBroken = isUpload && Number(headers["content-length"]) > 100_000 && breaks-- > 0;
    const body = async function* (): AsyncIterable<Uint8Array> {
      let sent = 0;
      for await (const chunk of request) {
        yield chunk as Uint8Array; // -- no encoding is set
        sent += (chunk as Uint8Array).length; // -- as above
        if (isBroken && sent > 1_000_000) request.socket.destroy();
      }
    };
    const hasBody = !["GET", "HEAD"].includes(method);
    const { connection: _connection, "transfer-encoding": _encoding, ...sent } = headers;
    const answer = await fetch(`http://${host}${url}`, {
      method,
      headers: sent as Record<string, string>, // -- registry clients repeat no header
      ...(hasBody && { body: body(), duplex: "half" }),
    } as RequestInit); // -- the types of fetch lack duplex
    const location = answer.headers.get("location")?.replace(`http://${host}`, "");
    const fields = Object.fromEntries(answer.headers);
    response.writeHead(answer.status, { ...fields, ...(location && { location }) });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
}

/** What `htpasswd -B` writes for `me` with the password `s3cret`. */
const htpasswd = "me:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

roomTest("docker-registry: basic auth by htpasswd", async (room) => {
  const path = join(room.dir, "htpasswd");
  await writeFile(path, htpasswd);
  const registry = await startDebianRegistry(room, { auth: { htpasswd: { realm: "r", path } } });
  const ref = `${registry.host}/a/b:t`;
  const as = (secret: string): Pick<RegistryResolverOptions, "credentials"> => ({
    credentials: staticCredentials(registry.host, { username: "me", secret }, "x"),
  });
  await using right = startClient(as("s3cret"));
  await pushImage(right.ctx, right.resolver, ref);
  await pullLayer(right.ctx, right.resolver, ref);
  await using wrong = startClient(as("wrong"));
  await assert.rejects(wrong.resolver.resolve(wrong.ctx, ref), {
    code: "unauthenticated",
    message: /^pull access denied, repository does not exist or may require authorization: /,
  });
  await using nobody = startClient();
  await assert.rejects(pushImage(nobody.ctx, nobody.resolver, ref), {
    code: "unauthenticated",
    message: /^push access denied, .*: no basic auth credentials$/,
  });
  assert.ok(!right.log.join("\n").includes("s3cret"));
});

roomTest("docker-registry: tokens of a server of the test's own", async (room) => {
  const authority = await makeAuthority(room.dir, "tokens");
  const granted: string[] = [];
  await using tokens = await startJwtServer(authority, granted);
  const registry = await startDebianRegistry(room, {
    auth: {
      token: {
        realm: `${tokens.origin}/token`,
        service: "registry.test",
        issuer: "tokens.test",
        rootcertbundle: authority.cert,
      },
    },
  });
  const ref = `${registry.host}/a/b:t`;
  const credentials = staticCredentials(registry.host, { username: "me", secret: "s3cret" }, "x");
  await using client = startClient({ credentials });
  const { ctx, resolver } = client;
  await pushImage(ctx, resolver, ref);
  await pullLayer(ctx, resolver, ref);
  const before = tokens.requests.length;
  await pullLayer(ctx, resolver, ref);
  assert.equal(tokens.requests.length, before, "tokens are kept as long as the resolver");
  assert.ok(granted.includes("repository:a/b:pull,push"), String(granted));
  assert.deepEqual(await Array.fromAsync(resolver.repositories(ctx, registry.host)), ["a/b"]);
  await using other = startClient();
  await assert.rejects(other.resolver.resolve(other.ctx, ref), { code: "unauthenticated" });
});

/** Grants `me` what is asked for, in the form that docker-registry verifies. */
async function startJwtServer(signer: Certificate, granted: string[]): Promise<FaultServer> {
  const key = await readFile(signer.key, "utf8");
  const { raw } = new X509Certificate(await readFile(signer.cert));
  const encode = (value: object): string =>
    Buffer.from(JSON.stringify(value)).toString("base64url");
  return startFaultServer(async (exchange) => {
    const form = new URLSearchParams((await exchange.body()).toString());
    const isMe = form.get("username") === "me" && form.get("password") === "s3cret";
    if (!isMe) return status(401)(exchange);
    const scopes = (form.get("scope") ?? "").split(" ").filter(Boolean);
    granted.push(...scopes);
    const access = scopes.map((scope) => {
      const [type, name, actions = ""] = scope.split(":");
      return { type, name, actions: actions.split(",") };
    });
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: "tokens.test",
      sub: "me",
      aud: "registry.test",
      nbf: now - 10,
      iat: now - 10,
      exp: now + 300,
      jti: randomUUID(),
      access,
    };
    const header = { typ: "JWT", alg: "RS256", x5c: [raw.toString("base64")] };
    const signed = `${encode(header)}.${encode(claims)}`;
    const signature = createSign("RSA-SHA256").update(signed).sign(key).toString("base64url");
    const body = JSON.stringify({ access_token: `${signed}.${signature}`, expires_in: 300 });
    return status(200, {}, body)(exchange);
  });
}

/** A registry with TLS, and the directory of host configuration that is meant for it. */
async function startTlsRegistry(room: Room, options: { clientAuthority?: Certificate } = {}) {
  const authority = await makeAuthority(room.dir, "authority");
  const names = ["IP:127.0.0.1", "DNS:localhost"];
  const server = await makeCertificate(authority, room.dir, "server", names);
  const { clientAuthority } = options;
  const registry = await startDebianRegistry(room, {
    http: {
      tls: {
        certificate: server.cert,
        key: server.key,
        ...(clientAuthority && { clientcas: [clientAuthority.cert] }),
      },
    },
  });
  const root = join(room.dir, "certs.d");
  const directory = join(root, registry.host);
  await mkdir(directory, { recursive: true });
  return { registry, authority, directory, roots: [root], ref: `${registry.host}/a/b:t` };
}

roomTest("docker-registry with TLS: by its authority, or not at all", async (room) => {
  const { registry, authority, directory, roots, ref } = await startTlsRegistry(room);
  const file = join(directory, "hosts.toml");
  await writeFile(file, `server = "https://${registry.host}"\n`);
  await using client = startClient({ roots });
  const { ctx, resolver } = client;
  await assert.rejects(pushImage(ctx, resolver, ref), {
    code: "unavailable",
    message: /tls: failed to verify certificate: x509: certificate signed by unknown authority \(/,
  });
  await writeFile(file, `server = "https://${registry.host}"\nca = "${authority.cert}"\n`);
  await pushImage(ctx, resolver, ref);
  await pullLayer(ctx, resolver, ref);
  // The same by another name, which the certificate does not have.
  const port = registry.host.split(":")[1];
  await writeFile(file, `server = "https://127.0.0.2:${port}"\nca = "${authority.cert}"\n`);
  await assert.rejects(resolver.resolve(ctx, ref), {
    message: /x509: .*127\.0\.0\.2|connection refused/,
  });
  await writeFile(file, `server = "https://${registry.host}"\nca = "missing.pem"\n`);
  await assert.rejects(resolver.resolve(ctx, ref), {
    code: "failed-precondition",
    message: /^unable to read CA cert ".*missing\.pem": ENOENT/,
  });
  await writeFile(file, `server = "https://${registry.host}"\nca = "hosts.toml"\n`);
  await assert.rejects(resolver.resolve(ctx, ref), { message: /unable to load CA cert/ });
  await writeFile(file, `server = "https://${registry.host}"\nskip_verify = true\n`);
  await pullLayer(ctx, resolver, ref);
  await writeFile(file, `server = "http://${registry.host}"\n`);
  await assert.rejects(resolver.resolve(ctx, ref), {
    message: /the server wants TLS \(say "https:/,
  });
});

roomTest(
  "docker-registry with TLS: without configuration, this machine is not verified",
  async (room) => {
    const { ref } = await startTlsRegistry(room);
    await using client = startClient();
    await pushImage(client.ctx, client.resolver, ref);
    await pullLayer(client.ctx, client.resolver, ref);
  },
);

roomTest(
  "docker-registry with TLS: client certificates, by hosts.toml and Docker's layout",
  async (room) => {
    const clients = await makeAuthority(room.dir, "clients");
    const { registry, authority, directory, roots, ref } = await startTlsRegistry(room, {
      clientAuthority: clients,
    });
    const mine = await makeCertificate(clients, room.dir, "mine", ["DNS:mine"]);
    const file = join(directory, "hosts.toml");
    const base = `server = "https://${registry.host}"\nca = "${authority.cert}"\n`;
    await writeFile(file, base);
    await using client = startClient({ roots });
    const { ctx, resolver } = client;
    await assert.rejects(resolver.resolve(ctx, ref), { code: "unavailable" });
    await writeFile(file, `${base}client = [["${mine.cert}", "${mine.key}"]]\n`);
    await pushImage(ctx, resolver, ref);
    await writeFile(file, "");
    await writeFile(join(directory, "ca.crt"), await readFile(authority.cert));
    await writeFile(join(directory, "mine.cert"), await readFile(mine.cert));
    await writeFile(join(directory, "mine.key"), await readFile(mine.key));
    await pullLayer(ctx, resolver, ref);
    await writeFile(join(directory, "mine.key"), "nonsense");
    await assert.rejects(resolver.resolve(ctx, ref), { message: /failed to load X509 key pair/ });
  },
);

roomTest(
  "docker-registry as a mirror: it resolves and serves what its registry has",
  async (room) => {
    const registry = await startDebianRegistry(room);
    const mirror = await startDebianRegistry(room, {
      proxy: { remoteurl: `http://${registry.host}` },
    });
    await using origin = startClient();
    await pushImage(origin.ctx, origin.resolver, `${registry.host}/a/b:t`);
    const directory = join(room.dir, "certs.d/r.example");
    await mkdir(directory, { recursive: true });
    await writeFile(
      join(directory, "hosts.toml"),
      `server = "http://127.0.0.1:1"\n[host."http://${mirror.host}"]\n`,
    );
    await using client = startClient({ roots: [join(room.dir, "certs.d")] });
    await pullLayer(client.ctx, client.resolver, "r.example/a/b:t");
    assert.match(await mirror.log(), /GET \/v2\/a\/b\/manifests\/sha256:\w+\?ns=r\.example/);
  },
);
