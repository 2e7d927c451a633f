import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { emptyAny } from "#core/streaming/convert.ts";
import { GrpcStreams } from "#core/streaming/proxy.ts";
import type { Stream } from "#core/streaming/streaming.ts";
import { ByteSender, receiveBytes } from "#core/transfer/byte-stream.ts";
import type { Any } from "#pkg/any.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { LocalStreams } from "#plugins/streaming/stream-manager.ts";
import { streamingService } from "#plugins/services/streaming/service.ts";

const ctx = Context.background().withNamespace("test");

interface Served extends AsyncDisposable {
  readonly streams: LocalStreams;
  readonly client: GrpcStreams;
  /** A context that ends with the test. */
  readonly ctx: Context;
}

async function serveStreams(t: TestContext): Promise<Served> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "streams-"));
  stack.defer(() => rm(dir, { recursive: true }));
  const streams = new LocalStreams();
  const server = stack.use(new GrpcServer({ services: [streamingService(streams)] }));
  const path = join(dir, "s.sock");
  await server.listen(path, { mode: 0o600 });
  const transport = stack.use(new GrpcTransport({ path }));
  const controller = new AbortController();
  stack.defer(() => controller.abort());
  const all = stack.move();
  return {
    streams,
    client: new GrpcStreams(transport),
    ctx: ctx.withSignal(AbortSignal.any([controller.signal, t.signal])),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

const text = (value: string): Any => ({ typeUrl: "test.Text", value: Buffer.from(value) });

test("a stream is found by its name in its namespace and carries messages both ways", async (t) => {
  await using served = await serveStreams(t);
  const mine = await served.client.create(served.ctx, "one");
  assert.throws(() => served.streams.get(ctx.withNamespace("other"), "one"), { code: "not-found" });
  const theirs = served.streams.get(ctx, "one");
  await mine.send(served.ctx, text("ping"));
  assert.equal(String((await theirs.receive(ctx))?.value), "ping");
  await theirs.send(ctx, text("pong"));
  const answer = await mine.receive(served.ctx);
  assert.equal(answer?.typeUrl, "test.Text");
  assert.equal(String(answer.value), "pong");
  await mine.close();
  assert.equal(await theirs.receive(ctx), undefined);
  await theirs.close();
  assert.equal(await mine.receive(served.ctx), undefined);
  assert.throws(() => served.streams.get(ctx, "one"), { code: "not-found" });
});

test("a name that is taken, empty, too long or not said is refused", async (t) => {
  await using served = await serveStreams(t);
  await served.client.create(served.ctx, "one");
  for (const [name, code] of [
    ["one", "already-exists"],
    ["", "invalid-argument"],
    ["x".repeat(1025), "invalid-argument"],
  ] as const) {
    const refused = served.client.create(served.ctx, name);
    await assert.rejects(refused, (error) => codeOf(error) === code);
  }
  await served.client.create(served.ctx.withNamespace("other"), "one");
});

test("bytes cross the wire in both directions, none, few and many", async (t) => {
  await using served = await serveStreams(t);
  const bytes = Buffer.alloc(5_000_000, "abcdefg");
  const carry = async (from: Stream, to: Stream, sent: Buffer): Promise<void> => {
    const sender = new ByteSender(from);
    const sending = sender.write(served.ctx, sent).then(() => sender.finish(served.ctx));
    const received = Buffer.concat(await Array.fromAsync(receiveBytes(served.ctx, to)));
    await sending;
    assert.ok(received.equals(sent));
  };
  for (const length of [0, 1, 32_768, 65_537, bytes.length]) {
    for (const direction of ["up", "down"]) {
      const name = `${direction}-${length}`;
      const mine = await served.client.create(served.ctx, name);
      const theirs = served.streams.get(ctx, name);
      const [from, to] = direction === "up" ? [mine, theirs] : [theirs, mine];
      await carry(from, to, bytes.subarray(0, length));
    }
  }
});

test("a client that goes away ends its stream and frees the name", async (t) => {
  await using served = await serveStreams(t);
  const controller = new AbortController();
  await served.client.create(served.ctx.withSignal(controller.signal), "one");
  const theirs = served.streams.get(ctx, "one");
  const waiting = assert.rejects(theirs.receive(ctx), { code: "canceled" });
  controller.abort();
  await waiting;
  await assert.rejects(theirs.send(ctx, emptyAny), { code: "unavailable" });
  await served.client.create(served.ctx, "one");
});

test("a collection ends the streams of a lease that is gone, and no others", async (t) => {
  await using served = await serveStreams(t);
  const leased = await served.client.create(served.ctx.withLease("l1"), "leased");
  await served.client.create(served.ctx, "free");
  const collection = served.streams.start(ctx);
  assert.deepEqual([...collection.active()], [{ namespace: "test", key: "free" }]);
  assert.deepEqual([...collection.leased("test", "l1")], [{ namespace: "test", key: "leased" }]);
  assert.deepEqual([...collection.leased("test", "l2")], []);
  collection.remove({ namespace: "test", key: "leased" });
  await collection.finish(ctx);
  assert.equal(await leased.receive(served.ctx), undefined);
  assert.deepEqual([...served.streams.start(ctx).all()], [{ namespace: "test", key: "free" }]);
});
