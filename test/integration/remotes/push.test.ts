import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { staticCredentials } from "#core/remotes/credentials.ts";
import type { PushSource } from "#core/remotes/remotes.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { digestOf, parseDigest } from "#pkg/digest.ts";
import { startClient } from "#test/integration/remotes/client.ts";
import { keep, startFaultRegistry } from "#test/support/registry/fault-registry.ts";
import { hangUp, redirect, status } from "#test/support/registry/fault-server.ts";
import { startTokenServer } from "#test/support/registry/fault-token-server.ts";

const layerBytes = randomBytes(300_000);
const layer: Descriptor = {
  mediaType: "application/vnd.oci.image.layer.v1.tar",
  digest: digestOf(layerBytes),
  sizeBytes: layerBytes.length,
  annotations: {},
};

/** Says from where it was read, each time. */
function sourceOf(bytes: Uint8Array): PushSource & { readonly reads: number[] } {
  const reads: number[] = [];
  return {
    reads,
    async *stream({ offset = 0 } = {}) {
      reads.push(offset);
      for (let at = offset; at < bytes.length; at += 16_384) {
        await Promise.resolve();
        yield bytes.subarray(at, at + 16_384);
      }
    },
  };
}

async function pushing(
  host: string,
  options: Parameters<typeof startClient>[0] = {},
  object = "t",
) {
  const client = startClient(options);
  const { ctx } = client;
  const pusher = await client.resolver.pusher(ctx, `${host}/a/b:${object}`);
  return {
    client,
    ctx,
    pusher,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
    },
  };
}

const methods = (lines: readonly string[]): readonly string[] =>
  lines.map((line) =>
    line.replace(/\?\S*/, "").replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, "ID"),
  );

test("a blob goes in one piece, and what is there is not sent again", async () => {
  await using registry = await startFaultRegistry();
  await using p = await pushing(registry.host);
  const progress: number[] = [];
  const onProgress = (offset: number): void => void progress.push(offset);
  const done = await p.pusher.push(p.ctx, layer, sourceOf(layerBytes), { onProgress });
  assert.deepEqual(done, { outcome: "pushed" });
  assert.deepEqual(registry.blobs.get(layer.digest), layerBytes);
  assert.equal(progress.at(-1), layerBytes.length);
  const short = layer.digest;
  assert.deepEqual(methods(registry.lines()), [
    `HEAD /v2/a/b/blobs/${short} 404`,
    "POST /v2/a/b/blobs/uploads/ 202",
    "PUT /v2/a/b/blobs/uploads/ID 201",
  ]);
  const source = sourceOf(layerBytes);
  assert.deepEqual(await p.pusher.push(p.ctx, layer, source), { outcome: "exists" });
  assert.deepEqual(source.reads, []);
});

test("chunks by PATCH, each from where the one before ended", async () => {
  await using registry = await startFaultRegistry();
  await using p = await pushing(registry.host, { uploadChunkBytes: 100_000 });
  await p.pusher.push(p.ctx, layer, sourceOf(layerBytes));
  assert.deepEqual(registry.blobs.get(layer.digest), layerBytes);
  const ranges = registry.requests.map(({ headers }) => headers["content-range"]).filter(Boolean);
  assert.deepEqual(ranges, ["0-99999", "100000-199999", "200000-299999"]);
  const states = registry.requests.slice(2).map(({ target }) => target.split("state=")[1]);
  assert.equal(new Set(states).size, 4, "every answer names another place");
});

test("an upload that breaks goes on from what the registry has kept", async () => {
  for (const uploadChunkBytes of [undefined, 200_000]) {
    await using registry = await startFaultRegistry();
    await using p = await pushing(registry.host, { uploadChunkBytes });
    registry.rule({
      match: /^(PUT|PATCH)/,
      times: 1,
      answer: async (exchange) => {
        const id = exchange.url.pathname.split("/").at(-1) ?? "";
        await keep(registry.uploads, exchange, id, 120_000);
      },
    });
    const source = sourceOf(layerBytes);
    await p.pusher.push(p.ctx, layer, source);
    assert.deepEqual(registry.blobs.get(layer.digest), layerBytes);
    assert.ok((source.reads[1] ?? 0) > 100_000, `read from ${String(source.reads)}`);
    assert.ok(registry.lines().some((line) => /^GET .* 204$/.test(line)));
  }
});

test("an upload that the registry has forgotten begins anew", async () => {
  await using registry = await startFaultRegistry();
  await using p = await pushing(registry.host);
  registry.rule({
    match: /^PUT/,
    times: 1,
    answer: (exchange) => {
      registry.uploads.clear();
      return hangUp(exchange);
    },
  });
  registry.rule({ match: /^PUT/, times: 1, answer: status(503) });
  const source = sourceOf(layerBytes);
  await p.pusher.push(p.ctx, layer, source);
  assert.deepEqual(registry.blobs.get(layer.digest), layerBytes);
  registry.blobs.clear();
  registry.rule({ match: /^PUT/, answer: hangUp });
  await assert.rejects(p.pusher.push(p.ctx, layer, source), { code: "unavailable" });
});

test("a source that has other than the expected bytes is refused", async () => {
  await using registry = await startFaultRegistry();
  await using p = await pushing(registry.host);
  const push = (bytes: Uint8Array): Promise<unknown> =>
    p.pusher.push(p.ctx, layer, sourceOf(bytes));
  await assert.rejects(push(layerBytes.subarray(1)), {
    code: "failed-precondition",
    message: /^unexpected size 299999 of sha256:\w+, expected 300000: failed precondition$/,
  });
  await assert.rejects(push(randomBytes(300_000)), { message: /400 Bad Request: digest invalid$/ });
  registry.rule({
    match: /^PUT/,
    answer: status(201, { "docker-content-digest": digestOf("other") }),
  });
  await assert.rejects(push(layerBytes), {
    code: "failed-precondition",
    message: /^got digest sha256:\w+, expected sha256:/,
  });
  const broken: PushSource = {
    async *stream() {
      yield layerBytes.subarray(0, 10);
      await Promise.resolve();
      throw new Error("disk is gone");
    },
  };
  await assert.rejects(p.pusher.push(p.ctx, layer, broken), {
    message: /read content to push: Error: disk is gone$/,
  });
  assert.equal(registry.blobs.size, 0);
  await assert.rejects(push(Buffer.concat([layerBytes, Buffer.alloc(1)])), {
    code: "failed-precondition",
    message: /^more than the expected 300000 bytes/,
  });
});

test("a blob that another repository has is mounted, and uploaded where that is not allowed", async () => {
  await using registry = await startFaultRegistry();
  await using p = await pushing(registry.host);
  registry.addBlob(layerBytes);
  registry.rule({ match: /^HEAD/, answer: status(404) });
  const annotations = { "containerd.io/distribution.source.127.0.0.1": "x/y,a/c,a/b" };
  const source = sourceOf(layerBytes);
  const mounted = await p.pusher.push(p.ctx, { ...layer, annotations }, source);
  assert.deepEqual(mounted, { outcome: "mounted", mountedFrom: `${registry.host}/a/c` });
  assert.match(registry.lines().at(-1) ?? "", /^POST .*\?mount=sha256%3A\w+&from=a%2Fc 201$/);
  assert.deepEqual(source.reads, []);
  registry.rule({ match: /mount=/, answer: status(401, { "www-authenticate": "Basic" }) });
  const pushed = await p.pusher.push(p.ctx, { ...layer, annotations }, source);
  assert.deepEqual(pushed, { outcome: "pushed" });
});

test("a mount asks for a token that may read the other repository too", async () => {
  await using registry = await startFaultRegistry();
  await using tokens = await startTokenServer();
  registry.rule({
    match: /./,
    when: ({ headers }) => headers.authorization === undefined,
    answer: status(401, { "www-authenticate": tokens.challenge("repository:a/b:pull,push") }),
  });
  await using p = await pushing(registry.host);
  const annotations = { "containerd.io/distribution.source.127.0.0.1": "a/c" };
  await p.pusher.push(p.ctx, { ...layer, annotations }, sourceOf(layerBytes));
  assert.deepEqual(
    tokens.seen.map(({ scopes }) => scopes),
    [["repository:a/b:pull,push"], ["repository:a/b:pull,push", "repository:a/c:pull"]],
  );
});

test("places of uploads: paths, URLs, names without a scheme; elsewhere without credentials", async () => {
  await using registry = await startFaultRegistry();
  await using storage = await startFaultRegistry();
  registry.rule({
    match: /./,
    when: ({ headers }) => headers.authorization === undefined,
    answer: status(401, { "www-authenticate": "Basic" }),
  });
  const credentials = staticCredentials(registry.host, { username: "me", secret: "s3cret" }, "x");
  const headers = { cookie: ["s3cret"], "x-mine": ["1"] };
  await using p = await pushing(registry.host, { credentials, headers });
  for (const to of [registry, storage]) {
    for (const prefix of ["", to.host, to.origin]) {
      if (to === storage && prefix === "") continue; // -- a path is always at the registry
      registry.blobs.clear();
      to.uploads.set("mine", Buffer.alloc(0));
      const location = `${prefix}/v2/a/b/blobs/uploads/mine?x=1`;
      registry.rule({ match: /^POST/, times: 1, answer: status(202, { location }) });
      await p.pusher.push(p.ctx, layer, sourceOf(layerBytes));
      assert.deepEqual(to.blobs.get(layer.digest), layerBytes, location);
      const put = to.requests.at(-1);
      assert.match(put?.target ?? "", /\?x=1&digest=sha256%3A\w+$/);
      assert.equal(put?.headers.authorization === undefined, to === storage, location);
      assert.equal(put?.headers.cookie === undefined, to === storage, location);
    }
  }
  registry.blobs.clear();
  for (const location of ["", "file:///x", "http://"]) {
    registry.rule({ match: /^POST/, times: 1, answer: status(202, { location }) });
    await assert.rejects(p.pusher.push(p.ctx, layer, sourceOf(layerBytes)), {
      message: /unable to parse location/,
    });
  }
});

test("an upload does not follow a redirect to another server", async () => {
  await using registry = await startFaultRegistry();
  await using storage = await startFaultRegistry();
  await using p = await pushing(registry.host);
  registry.rule({ match: /^PUT/, answer: redirect(`${storage.origin}/take`, 307) });
  await assert.rejects(p.pusher.push(p.ctx, layer, sourceOf(layerBytes)), {
    message: /upload was redirected to http:\/\/127.*, which is not followed$/,
  });
  assert.equal(storage.requests.length, 0);
});

test("manifests go under the reference's tag, those of another digest under their own", async () => {
  await using registry = await startFaultRegistry();
  const bytes = Buffer.from('{"schemaVersion":2}');
  const manifest: Descriptor = {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: digestOf(bytes),
    sizeBytes: bytes.length,
    annotations: {},
  };
  const objects = ["t", `t@${manifest.digest}`, `t@${layer.digest}`];
  const places = ["t", "t", manifest.digest];
  for (const [i, object] of objects.entries()) {
    registry.manifests.clear();
    await using p = await pushing(registry.host, {}, object);
    assert.equal((await p.pusher.push(p.ctx, manifest, sourceOf(bytes))).outcome, "pushed");
    assert.equal(registry.requests.at(-1)?.target, `/v2/a/b/manifests/${places[i]}`);
    assert.equal(registry.requests.at(-1)?.headers["content-type"], manifest.mediaType);
    assert.equal((await p.pusher.push(p.ctx, manifest, sourceOf(bytes))).outcome, "exists");
  }
  // A tag that stands for something else moves.
  registry.addManifest("a/b", { other: true }, "t");
  await using p = await pushing(registry.host);
  assert.equal((await p.pusher.push(p.ctx, manifest, sourceOf(bytes))).outcome, "pushed");
  registry.manifests.clear();
  await assert.rejects(p.pusher.push(p.ctx, { ...manifest, sizeBytes: 5 << 20 }, sourceOf(bytes)), {
    code: "invalid-argument",
  });
});

test("a refusal says why, also where HEAD cannot", async () => {
  await using registry = await startFaultRegistry();
  await using p = await pushing(registry.host);
  const errors = [{ code: "DENIED", message: "your address is not allowed" }];
  const readOnly = [{ code: "UNSUPPORTED", message: "read only" }];
  registry.rule({ match: /./, answer: status(403, {}, JSON.stringify({ errors })) });
  await assert.rejects(p.pusher.push(p.ctx, layer, sourceOf(layerBytes)), {
    code: "permission-denied",
    message: /from HEAD request to .*: 403 Forbidden: denied: your address is not allowed$/,
  });
  registry.rule({ match: /./, answer: status(401, { "www-authenticate": "Basic" }) });
  await assert.rejects(p.pusher.push(p.ctx, layer, sourceOf(layerBytes)), {
    code: "unauthenticated",
    message: /^push access denied, repository does not exist or may require authorization: /,
  });
  // No class of its own: it is the registry that does not do this, not the daemon.
  registry.rule({ match: /^HEAD/, answer: status(404) });
  registry.rule({ match: /^POST/, answer: status(405, {}, JSON.stringify({ errors: readOnly })) });
  await assert.rejects(p.pusher.push(p.ctx, layer, sourceOf(layerBytes)), {
    code: "unknown",
    message: /: 405 Method Not Allowed: unsupported: read only$/,
  });
  for (const sizeBytes of [-1, 0.5]) {
    await assert.rejects(p.pusher.push(p.ctx, { ...layer, sizeBytes }, sourceOf(layerBytes)), {
      code: "invalid-argument",
    });
  }
});

test("an empty blob, and one by sha512", async () => {
  await using registry = await startFaultRegistry();
  await using p = await pushing(registry.host);
  const empty = { ...layer, digest: digestOf(""), sizeBytes: 0 };
  assert.equal((await p.pusher.push(p.ctx, empty, sourceOf(Buffer.alloc(0)))).outcome, "pushed");
  const digest = parseDigest(`sha512:${"0".repeat(128)}`);
  await assert.rejects(p.pusher.push(p.ctx, { ...layer, digest }, sourceOf(layerBytes)), {
    message: /digest invalid$/,
  });
});
