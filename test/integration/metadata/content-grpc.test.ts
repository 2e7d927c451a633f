import assert from "node:assert";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Content, WriteAction } from "#api/services/content/v1/content_pb.ts";
import { ProxyContentStore } from "#core/content/proxy.ts";
import { contentSuite, put, rejects } from "#core/content/suite.ts";
import { digestOf } from "#pkg/digest.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Service } from "#pkg/rpc/service.ts";
import { contentService } from "#plugins/services/content/service.ts";
import { inNamespace, testStorage } from "#test/integration/metadata/daemon-storage.ts";

const ctx = inNamespace("one");

async function connect(t: TestContext, service: Service): Promise<GrpcTransport> {
  const dir = await mkdtemp(join(tmpdir(), "content-grpc-"));
  const server = new GrpcServer({ services: [service] });
  await server.listen(join(dir, "s"), { mode: 0o660 });
  const transport = new GrpcTransport({ path: join(dir, "s") });
  t.after(async () => {
    await transport.close();
    await server[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  });
  return transport;
}

contentSuite("gRPC proxy of metadata over local", {
  labels: true,
  open: async (t) => {
    const { metadata } = await testStorage(t);
    const transport = await connect(t, contentService(metadata.content));
    return { ctx, store: new ProxyContentStore(transport) };
  },
});

type WriteRequest =
  Parameters<ReturnType<typeof raw>["write"]>[1] extends AsyncIterable<infer R> ? R : never;

function raw(transport: GrpcTransport) {
  return createClient(Content, transport);
}

async function* of(...requests: WriteRequest[]): AsyncGenerator<WriteRequest> {
  yield* requests;
}

async function answers(
  transport: GrpcTransport,
  ...requests: WriteRequest[]
): Promise<{ action: number; offset: bigint; digest: string }[]> {
  const all = [];
  for await (const response of raw(transport).write(ctx, of(...requests))) all.push(response);
  return all;
}

test("Write: the first message must carry a ref", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await connect(t, contentService(metadata.content));
  await assert.rejects(answers(transport, { action: WriteAction.STAT }), {
    code: "invalid-argument",
    message: "first message must have a reference",
  });
});

test("Write: one message can carry a whole blob", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await connect(t, contentService(metadata.content));
  const data = Buffer.from("whole");
  const [response] = await answers(transport, {
    action: WriteAction.COMMIT,
    ref: "r",
    data,
    total: 5n,
    expected: digestOf(data),
    labels: { a: "b" },
  });
  assert.strictEqual(response?.offset, 5n);
  assert.strictEqual(response?.digest, digestOf(data));
  assert.deepStrictEqual((await metadata.content.info(ctx, digestOf(data))).labels, { a: "b" });
});

test("Write: an offset that is not the current one is out of range, 0 starts anew", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await connect(t, contentService(metadata.content));
  const begin = { action: WriteAction.WRITE, ref: "r", data: Buffer.from("abc") };
  const gap = { action: WriteAction.WRITE, offset: 5n, data: Buffer.from("x") };
  await assert.rejects(answers(transport, begin, gap), {
    code: "out-of-range",
    message: "write @5 must occur at current offset 3",
  });
  assert.strictEqual((await metadata.content.status(ctx, "r")).offset, 3);
  const again = { action: WriteAction.WRITE, ref: "r", data: Buffer.from("xy") };
  const commit = { action: WriteAction.COMMIT, offset: 2n };
  const all = await answers(transport, again, commit);
  assert.deepStrictEqual(
    all.map(({ offset, digest }) => [offset, digest]),
    [
      [2n, digestOf("xy")],
      [2n, digestOf("xy")],
    ],
  );
});

test("Write: expecting a blob that is there drops the ingest", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await connect(t, contentService(metadata.content));
  const expected = await put(ctx, metadata.content, "first", Buffer.from("there"));
  const begin = { action: WriteAction.WRITE, ref: "r", data: Buffer.from("the") };
  const stat = { action: WriteAction.STAT, expected };
  await assert.rejects(answers(transport, begin, stat), {
    code: "already-exists",
    message: `blob with expected digest ${expected} exists`,
  });
  await rejects(metadata.content.status(ctx, "r"), "not-found");
});

test("Write: what is not as expected is not committed, and the ingest stays", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await connect(t, contentService(metadata.content));
  const begin = { action: WriteAction.WRITE, ref: "r", data: Buffer.from("abc") };
  for (const wrong of [{ total: 4n }, { expected: digestOf("abcd") }]) {
    const commit = { action: WriteAction.COMMIT, offset: 3n, ...wrong };
    await rejects(answers(transport, begin, commit), "failed-precondition");
    assert.strictEqual((await metadata.content.status(ctx, "r")).offset, 3);
  }
});

test("Write: malformed digests and negative sizes are refused", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await connect(t, contentService(metadata.content));
  for (const bad of [{ expected: "sha256:../../etc/passwd" }, { total: -1n }, { offset: -1n }]) {
    const request = { action: WriteAction.WRITE, ref: "r", ...bad };
    await rejects(answers(transport, request), "invalid-argument");
  }
});

test("Write: a client that goes away leaves the ingest and frees the ref", async (t) => {
  const { metadata } = await testStorage(t);
  const first = await connect(t, contentService(metadata.content));
  const gone = new AbortController();
  const responses = raw(first)
    .write(
      ctx.withSignal(gone.signal),
      (async function* () {
        yield { action: WriteAction.WRITE, ref: "r", data: Buffer.from("abc") };
        await new Promise(() => {});
      })(),
    )
    [Symbol.asyncIterator]();
  await responses.next();
  gone.abort();
  await assert.rejects(async () => {
    while (!(await responses.next()).done);
  });
  await using writer = await eventually(() => metadata.content.writer(ctx, { ref: "r" }));
  assert.strictEqual(writer.status().offset, 3);
});

test("Read: parts, and past the end", async (t) => {
  const { metadata } = await testStorage(t);
  const transport = await connect(t, contentService(metadata.content));
  const data = randomBytes(2_500_000);
  const digest = await put(ctx, metadata.content, "r", data);
  const read = async (offset: bigint, size: bigint): Promise<Buffer> => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of raw(transport).read(ctx, { digest, offset, size })) {
      assert.ok(chunk.data.length <= 1 << 20);
      chunks.push(chunk.data);
    }
    return Buffer.concat(chunks);
  };
  assert.ok((await read(0n, 0n)).equals(data));
  assert.ok((await read(-5n, -1n)).equals(data));
  assert.ok((await read(2_000_000n, 100n)).equals(data.subarray(2_000_000, 2_000_100)));
  assert.ok((await read(2_499_999n, 100n)).equals(data.subarray(2_499_999)));
  assert.strictEqual((await read(2_500_000n, 0n)).length, 0);
  await assert.rejects(read(2_500_001n, 0n), {
    code: "out-of-range",
    message: "read past object length 2500000 bytes",
  });
});

/** Until the server has seen that the client is gone, the ref is still locked. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!String(error).includes("locked")) throw error;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
