import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseDigest } from "#pkg/digest.ts";
import { makeAuthority, makeCertificate } from "#test/integration/remotes/certificates.ts";
import { collect, startClient } from "#test/integration/remotes/client.ts";
import { startFaultRegistry } from "#test/support/registry/fault-registry.ts";

const address = "::1";

test("a registry at an IPv6 address is resolved and read", async () => {
  await using registry = await startFaultRegistry({ address });
  const bytes = Buffer.from("a layer");
  const digest = registry.addBlob(bytes);
  const manifest = registry.addManifest("a/b", { layers: [] }, "t");
  await using client = startClient();
  const { ctx, resolver } = client;
  const ref = `${registry.host}/a/b:t`;
  assert.match(ref, /^\[::1\]:\d+\//);
  const { descriptor } = await resolver.resolve(ctx, ref);
  assert.equal(descriptor.digest, manifest.digest);
  const fetcher = await resolver.fetcher(ctx, ref);
  const layer = {
    mediaType: "x/y",
    digest: parseDigest(digest),
    sizeBytes: bytes.length,
    annotations: {},
  };
  assert.deepEqual(await collect(fetcher.fetch(ctx, layer)), bytes);
  assert.equal(registry.requests[0]?.headers.host, registry.host);
});

test("a registry at an IPv6 address has TLS, and its certificate is held against the address", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ipv6-"));
  const authority = await makeAuthority(dir.path, "authority");
  for (const [name, isItsName] of [
    ["IP:::1", true],
    ["IP:::2", false],
  ] as const) {
    const { cert, key } = await makeCertificate(authority, dir.path, "server", [name]);
    const tls = { cert: await readFile(cert), key: await readFile(key) };
    await using registry = await startFaultRegistry({ address, tls });
    const { digest } = registry.addManifest("a/b", { layers: [] }, "t");
    const directory = join(dir.path, registry.host);
    await mkdir(directory);
    const text = `server = "https://${registry.host}"\nca = "${authority.cert}"\n`;
    await writeFile(join(directory, "hosts.toml"), text);
    await using client = startClient({ roots: [dir.path] });
    const resolved = client.resolver.resolve(client.ctx, `${registry.host}/a/b:t`);
    if (isItsName) assert.equal((await resolved).descriptor.digest, digest);
    else await assert.rejects(resolved, { message: /failed to verify certificate: x509: .*::1/ });
  }
});
