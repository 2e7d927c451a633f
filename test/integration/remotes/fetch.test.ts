import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { gzipSync, zstdCompressSync, deflateRawSync, deflateSync } from "node:zlib";
import { Limit } from "#pkg/limit.ts";
import type { RemoteDescriptor } from "#core/remotes/remotes.ts";
import { parseDigest } from "#pkg/digest.ts";
import { collect, startClient } from "#test/integration/remotes/client.ts";
import {
  cutAfter,
  endless,
  type FaultRegistry,
  ignoreRange,
  sendBytes,
  stallAfter,
  startFaultRegistry,
} from "#test/support/registry/fault-registry.ts";
import { hangUp, redirect, silence, status } from "#test/support/registry/fault-server.ts";

const layerBytes = randomBytes(300_000);

function layerOf(registry: FaultRegistry, bytes: Buffer = layerBytes): RemoteDescriptor {
  const digest = parseDigest(registry.addBlob(bytes));
  return { mediaType: "layer", digest, sizeBytes: bytes.length, annotations: {} };
}

/** A client and the fetcher of `a/b` at the registry. */
async function fetching(registry: FaultRegistry, options: Parameters<typeof startClient>[0] = {}) {
  const client = startClient(options);
  const { ctx } = client;
  const fetcher = await client.resolver.fetcher(ctx, `${registry.host}/a/b:t`);
  const get = (descriptor: RemoteDescriptor, offset = 0): Promise<Buffer> =>
    collect(fetcher.fetch(ctx, descriptor, { offset }));
  return {
    client,
    ctx,
    fetcher,
    get,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
    },
  };
}

test("a blob comes from its offset on, and not at all when nothing is missing", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  assert.deepEqual(await f.get(layer), layerBytes);
  assert.deepEqual(await f.get(layer, 100_000), layerBytes.subarray(100_000));
  assert.equal(registry.requests.at(-1)?.headers.range, "bytes=100000-");
  const before = registry.requests.length;
  assert.equal((await f.get(layer, layerBytes.length)).length, 0);
  assert.equal(registry.requests.length, before);
});

test("connections that break are made anew from where they were", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  registry.rule({ match: /blobs/, times: 3, answer: cutAfter(layerBytes, 50_000) });
  assert.deepEqual(await f.get(layer), layerBytes);
  const ranges = registry.requests.map(({ headers }) => headers.range);
  assert.equal(ranges.length, 4);
  assert.equal(ranges[0], undefined);
  const starts = ranges.slice(1).map((range) => Number(/\d+/.exec(range ?? "")?.[0]));
  assert.ok(
    starts.every((start, i) => start > (starts[i - 1] ?? 0)),
    String(starts),
  );
});

test("a stalled connection is noticed and made anew", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  registry.rule({ match: /blobs/, times: 1, answer: stallAfter(layerBytes, 60_000) });
  assert.deepEqual(await f.get(layer), layerBytes);
  assert.equal(registry.requests.length, 2);
});

test("a reader that is slow is no stall", async () => {
  await using registry = await startFaultRegistry();
  const bytes = randomBytes(8 << 20);
  const layer = layerOf(registry, bytes);
  await using f = await fetching(registry, { transports: { timeouts: { bodyIdleMs: 50 } } });
  const got: Uint8Array[] = [];
  let waits = 0;
  for await (const chunk of f.fetcher.fetch(f.ctx, layer)) {
    got.push(chunk);
    // Longer than the bound, on purpose: nobody pulls, so nothing can come.
    if (waits++ === 1) await new Promise((resolve) => setTimeout(resolve, 300));
  }
  assert.deepEqual(Buffer.concat(got), bytes);
  assert.equal(registry.requests.length, 1);
});

test("after three breaks without a byte more it is given up", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  registry.rule({ match: /blobs/, answer: cutAfter(layerBytes, 0) });
  await assert.rejects(f.get(layer), {
    code: "data-loss",
    message: `${layer.digest}: unexpected EOF after 0 of 300000 bytes`,
  });
  assert.equal(registry.requests.length, 4);
});

test("M48: what is longer than its descriptor is refused, and no byte too many is given", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  const short = { ...layer, sizeBytes: 1_000 };
  let got = 0;
  await assert.rejects(
    async () => {
      for await (const chunk of f.fetcher.fetch(f.ctx, short)) got += chunk.length;
    },
    {
      code: "failed-precondition",
      message: "httpReadSeeker: read past expected size 1000: failed precondition",
    },
  );
  assert.ok(got <= 1_000);
  registry.rule({ match: /blobs/, answer: endless });
  await assert.rejects(f.get(layer), { code: "failed-precondition" });
});

test("what is shorter than its descriptor is refused", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  await assert.rejects(f.get({ ...layer, sizeBytes: 300_001 }), {
    code: "data-loss",
    message: /the registry has 300000 bytes of it, 300001 are expected$/,
  });
  registry.rule({
    match: /blobs/,
    answer: ({ response }) => void response.writeHead(200).end(layerBytes.subarray(0, 100)),
  });
  await assert.rejects(f.get(layer), { code: "data-loss" });
});

test("M47: a negative size, or offset, is refused before any request", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  for (const sizeBytes of [-1, Number.NaN, 2 ** 60]) {
    assert.throws(() => f.fetcher.fetch(f.ctx, { ...layer, sizeBytes }), {
      code: "invalid-argument",
      message: /^invalid descriptor size /,
    });
  }
  assert.throws(() => f.fetcher.fetch(f.ctx, layer, { offset: -1 }), { code: "invalid-argument" });
  assert.equal(registry.requests.length, 0);
});

test("ranges that a server ignores are read up to and dropped; others' are refused", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  registry.rule({ match: /blobs/, times: 1, answer: ignoreRange(layerBytes) });
  assert.deepEqual(await f.get(layer, 123_456), layerBytes.subarray(123_456));
  const range = { "content-range": "bytes 5-299999/300000" };
  registry.rule({ match: /blobs/, answer: status(206, range, "x") });
  await assert.rejects(f.get(layer, 10), { message: /unhandled content range in response/ });
});

test("encoded bodies are decoded, also when they are cut and resumed", async () => {
  const encodings = {
    gzip: gzipSync(layerBytes),
    zstd: zstdCompressSync(layerBytes),
    deflate: deflateSync(layerBytes),
    "Deflate ": deflateRawSync(layerBytes),
    "gzip, identity": gzipSync(layerBytes),
    "zstd, gzip": gzipSync(zstdCompressSync(layerBytes)),
  };
  for (const [name, encoded] of Object.entries(encodings)) {
    await using registry = await startFaultRegistry();
    const layer = layerOf(registry);
    await using f = await fetching(registry);
    const headers = { "content-encoding": name, "content-length": encoded.length };
    registry.rule({
      match: /blobs/,
      times: 1,
      answer: ({ response }) => {
        response.writeHead(200, headers);
        response.write(encoded.subarray(0, 150_000), () => response.destroy());
      },
    });
    assert.deepEqual(await f.get(layer), layerBytes, name);
    assert.equal(registry.requests.length, 2, name);
    assert.equal(registry.requests[1]?.headers["accept-encoding"], "identity");
    registry.rule({
      match: /blobs/,
      answer: ({ response }) => void response.writeHead(200, headers).end(encoded),
    });
    assert.deepEqual(await f.get(layer), layerBytes, name);
  }
});

test("an encoding that nobody knows is refused", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  for (const name of ["br", "gzip,gzip,gzip,gzip,gzip"]) {
    registry.rule({ match: /blobs/, answer: status(200, { "content-encoding": name }, "x") });
    await assert.rejects(f.get(layer), { code: "unavailable" });
  }
  const bomb = gzipSync(Buffer.alloc(64 << 20));
  registry.rule({
    match: /blobs/,
    answer: ({ response }) =>
      void response.writeHead(200, { "content-encoding": "gzip" }).end(bomb),
  });
  await assert.rejects(f.get(layer), { code: "failed-precondition" });
});

test("leaving the loop closes the connection, and so does a cancel", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  const closed: string[] = [];
  registry.rule({
    match: /blobs/,
    answer: (exchange) => {
      exchange.response.once("close", () => closed.push("closed"));
      return stallAfter(layerBytes, 1_000)(exchange);
    },
  });
  const controller = new AbortController();
  const long = { timeouts: { bodyIdleMs: 60_000, responseHeaderMs: 60_000 } };
  await using f = await fetching(registry, { signal: controller.signal, transports: long });
  for await (const _chunk of f.fetcher.fetch(f.ctx, layer)) break;
  const reading = f.get(layer);
  while (registry.requests.length < 2) await new Promise((resolve) => setImmediate(resolve));
  controller.abort();
  await assert.rejects(reading, { code: "canceled" });
  while (closed.length < 2) await new Promise((resolve) => setImmediate(resolve));
});

test("M56: large blobs by ranges at once, in order, with no more buffers than connections", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  const asked: string[] = [];
  registry.rule({
    match: /blobs/,
    answer: (exchange) => {
      asked.push(exchange.request.headers.range ?? "");
      sendBytes(exchange, layerBytes);
    },
  });
  const parallel = { connections: 3, chunkBytes: 32_000 };
  await using f = await fetching(registry, { parallel, downloadLimit: new Limit(2) });
  const got: Uint8Array[] = [];
  for await (const chunk of f.fetcher.fetch(f.ctx, layer, { offset: 1_000 })) {
    got.push(chunk);
    // Chunk i is asked for after chunk i - 3 was taken.
    assert.ok(asked.length <= got.length + 2, `${asked.length} asked, ${got.length} taken`);
  }
  assert.deepEqual(Buffer.concat(got), layerBytes.subarray(1_000));
  assert.equal(asked.length, 10);
  assert.equal(asked[0], "bytes=1000-32999");
  assert.equal(asked[9], "bytes=289000-299999");
});

test("ranges at once: a server that ignores them, or breaks, is asked for the rest by one", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  const parallel = { connections: 4, chunkBytes: 32_000 };
  await using f = await fetching(registry, { parallel });
  registry.rule({ match: /blobs/, times: 2, answer: ignoreRange(layerBytes) });
  assert.deepEqual(await f.get(layer), layerBytes);
  assert.equal(registry.requests.length, 2);
  registry.rule({
    match: /blobs/,
    when: ({ headers }) => headers.range?.startsWith("bytes=96000-") === true,
    times: 2,
    answer: hangUp,
  });
  registry.rule({
    match: /blobs/,
    when: ({ headers }) => headers.range?.startsWith("bytes=128000-") === true,
    times: 1,
    answer: (exchange) => {
      exchange.response.writeHead(206, {
        "content-range": "bytes 128000-159999/300000",
        "content-length": 32_000,
      });
      exchange.response.write("x", () => exchange.response.destroy());
    },
  });
  assert.deepEqual(await f.get(layer), layerBytes);
});

test("the next host is asked when one fails, each with what it stands in for", async () => {
  await using mirror = await startFaultRegistry();
  await using registry = await startFaultRegistry();
  await using dir = await mkdtempDisposable(`${tmpdir()}/remotes-`);
  await mkdir(`${dir.path}/r.example`);
  const toml = `server = "${registry.origin}"\n[host."${mirror.origin}"]\ncapabilities = ["pull"]\n`;
  await writeFile(`${dir.path}/r.example/hosts.toml`, toml);
  const layer = layerOf(registry);
  const { digest } = registry.addManifest("a/b", { layers: [] }, "t");
  await using client = startClient({ roots: [dir.path] });
  const { ctx, resolver } = client;
  const { descriptor } = await resolver.resolve(ctx, "r.example/a/b:t");
  assert.equal(descriptor.digest, digest);
  assert.equal(mirror.requests.length, 0, "a mirror that may not resolve is not asked for a tag");
  const fetcher = await resolver.fetcher(ctx, "r.example/a/b:t");
  assert.deepEqual(await collect(fetcher.fetch(ctx, layer)), layerBytes);
  assert.match(mirror.lines()[0] ?? "", /^GET \/v2\/a\/b\/blobs\/sha256:\w+\?ns=r\.example 404$/);
  assert.match(registry.lines().at(-1) ?? "", /\?ns=r\.example 200$/);
  // Only the last host is given a second chance by 5xx.
  mirror.rule({ match: /./, answer: status(503) });
  registry.rule({ match: /./, times: 1, answer: status(503) });
  const before = { mirror: mirror.requests.length, registry: registry.requests.length };
  assert.deepEqual(await collect(fetcher.fetch(ctx, layer)), layerBytes);
  assert.equal(mirror.requests.length - before.mirror, 1);
  assert.equal(registry.requests.length - before.registry, 2);
});

test("a registry that is busy is waited for as it asks, up to a bound", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  registry.rule({ match: /./, times: 2, answer: status(429, { "retry-after": "0" }) });
  registry.rule({ match: /./, times: 1, answer: status(408) });
  assert.deepEqual(await f.get(layer), layerBytes);
  registry.rule({ match: /./, answer: status(429, { "retry-after": "21600" }) });
  const before = registry.requests.length;
  await assert.rejects(f.get(layer), {
    code: "resource-exhausted",
    message: /: 429 Too Many Requests: rate limited: try again in 21600 s$/,
  });
  assert.equal(registry.requests.length - before, 1);
  registry.rule({ match: /./, answer: status(429, { "retry-after": "0" }) });
  await assert.rejects(f.get(layer), { code: "resource-exhausted" });
  assert.equal(registry.requests.length - before, 6, "five attempts");
});

test("5xx twice in a row is an answer; a connection without one is tried five times", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  registry.rule({ match: /./, answer: status(500) });
  await assert.rejects(f.get(layer), { code: "unavailable", message: /500 Internal Server Error/ });
  assert.equal(registry.requests.length, 2);
  registry.rule({ match: /./, answer: hangUp });
  await assert.rejects(f.get(layer), { message: /^(failed to do request: Get|sha256:).* EOF/ });
});

test("a server that does not answer is given up after a time", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  registry.rule({ match: /./, answer: silence });
  const transports = { timeouts: { responseHeaderMs: 20 } };
  await using f = await fetching(registry, { transports });
  await assert.rejects(f.get(layer), {
    message: /timeout awaiting response headers|unexpected EOF/,
  });
});

test("redirects are followed, ten at most, and only to http and https", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  await using f = await fetching(registry);
  const target = `/v2/a/b/blobs/${layer.digest}`;
  registry.rule({ match: /\/hop\?n=9/, answer: redirect(target) });
  registry.rule({ match: /blobs/, times: 1, answer: redirect("/hop?n=9", 302) });
  assert.deepEqual(await f.get(layer), layerBytes);
  registry.rule({ match: /./, answer: redirect("/round") });
  await assert.rejects(f.get(layer), { message: /stopped after 10 redirects$/ });
  for (const place of ["file:///etc/passwd", "http://"]) {
    registry.rule({ match: /./, answer: redirect(place) });
    await assert.rejects(f.get(layer), { message: /redirects to no usable address$/ });
  }
});

test("content of which only the digest is known: a blob, else a manifest", async () => {
  await using registry = await startFaultRegistry();
  const layer = layerOf(registry);
  const manifest = registry.addManifest("a/b", { layers: [] });
  await using f = await fetching(registry);
  const blob = await f.fetcher.fetchByDigest(f.ctx, layer.digest);
  assert.equal(blob.descriptor.sizeBytes, 300_000);
  assert.equal(blob.descriptor.mediaType, "application/octet-stream");
  assert.deepEqual(await collect(blob.stream({ offset: 7 })), layerBytes.subarray(7));
  const other = await f.fetcher.fetchByDigest(f.ctx, parseDigest(manifest.digest), {
    mediaType: "application/x",
  });
  assert.equal(other.descriptor.mediaType, "application/x");
  assert.equal((await collect(other.stream())).length, manifest.size);
  const absent = parseDigest(`sha256:${"0".repeat(64)}`);
  await assert.rejects(f.fetcher.fetchByDigest(f.ctx, absent), { code: "not-found" });
});

test("what no host has is not found, by upstream's words", async () => {
  await using registry = await startFaultRegistry();
  await using f = await fetching(registry);
  const digest = parseDigest(`sha256:${"0".repeat(64)}`);
  const layer = { mediaType: "layer", digest, sizeBytes: 1, annotations: {} };
  await assert.rejects(f.get(layer), {
    code: "not-found",
    message: `could not fetch content descriptor ${digest} (layer) from remote: not found`,
  });
});

test("URLs of a descriptor: 404 leads to the next, any other failure to the registry, once per blob", async () => {
  await using registry = await startFaultRegistry();
  await using elsewhere = await startFaultRegistry();
  await using client = startClient();
  const bytes = randomBytes(1_000);
  const digest = registry.addBlob(bytes);
  const fetcher = await client.resolver.fetcher(client.ctx, `${registry.host}/a/b:t`);
  const get = (urls: readonly string[]) => {
    const descriptor = {
      mediaType: "x/y",
      digest: parseDigest(digest),
      sizeBytes: bytes.length,
      annotations: {},
      urls: urls.map((path) => `${elsewhere.origin}/${path}`),
    };
    return collect(fetcher.fetch(client.ctx, descriptor));
  };
  const many = Array.from({ length: 100 }, (_, i) => String(i));
  assert.deepEqual(await get(many), bytes);
  assert.equal(elsewhere.requests.length, 8);
  elsewhere.rule({ match: /\/busy$/, answer: status(503) });
  registry.rule({ match: /blobs/, answer: cutAfter(bytes, 500), times: 1 });
  assert.deepEqual(await get(["none", "busy", "after"]), bytes);
  assert.deepEqual(elsewhere.lines().slice(8), ["GET /none 404", "GET /busy 503"]);
  // Nobody else has it: then that failure is what there is to say.
  registry.blobs.clear();
  await assert.rejects(get(["busy"]), { code: "unavailable", message: /\/busy: 503/ });
});
