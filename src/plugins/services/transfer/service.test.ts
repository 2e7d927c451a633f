import assert from "node:assert/strict";
import { test } from "node:test";
import { Transfer } from "#api/services/transfer/v1/transfer_pb.ts";
import { ImageStoreSchema } from "#api/types/transfer/imagestore_pb.ts";
import { ImageImportStreamSchema } from "#api/types/transfer/importexport_pb.ts";
import { OCIRegistrySchema } from "#api/types/transfer/registry_pb.ts";
import { anyToWire, toAny } from "#core/streaming/convert.ts";
import type { Stream } from "#core/streaming/streaming.ts";
import type { TransferObject, TransferOptions, Transferrer } from "#core/transfer/transfer.ts";
import type { Any } from "#pkg/any.ts";
import { Context } from "#pkg/context.ts";
import { notImplemented, unavailable } from "#pkg/errors.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { LocalStreams } from "#plugins/streaming/stream-manager.ts";
import { transferService } from "#plugins/services/transfer/service.ts";

const ctx = Context.background().withNamespace("test");
const store = anyToWire(toAny(ImageStoreSchema, { name: "docker.io/library/a:1" }));
const registry = anyToWire(toAny(OCIRegistrySchema, { reference: "docker.io/library/a:1" }));

/** Takes what is sent as far as `room` goes, and waits for more room then. */
class SentStream implements Stream {
  readonly sent: Any[] = [];
  isClosed = false;
  readonly #room: number;

  constructor(room: number) {
    this.#room = room;
  }

  async send(given: Context, message: Any): Promise<void> {
    if (this.sent.length >= this.#room) {
      await new Promise((resolve) => given.signal.addEventListener("abort", resolve));
      throw unavailable("stream closed");
    }
    this.sent.push(message);
  }

  async receive(): Promise<undefined> {}
  async flush(): Promise<void> {}

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

class Recorder implements Transferrer {
  readonly calls: [TransferObject, TransferObject][] = [];
  readonly #run: (options: TransferOptions | undefined) => Promise<void>;

  constructor(run: (options: TransferOptions | undefined) => Promise<void> = async () => {}) {
    this.#run = run;
  }

  async transfer(
    ...[, source, destination, options]: Parameters<Transferrer["transfer"]>
  ): Promise<void> {
    this.calls.push([source, destination]);
    await this.#run(options);
  }
}

function call(
  transferrers: readonly Transferrer[],
  streams = new LocalStreams(),
): Client<typeof Transfer>["transfer"] {
  const { handlers } = transferService({ transferrers, streams });
  return handlers["transfer"] as unknown as Client<typeof Transfer>["transfer"]; // -- as `serve` took it
}

test("objects arrive as what the client named, and the next transferrer is asked when one cannot", async () => {
  const unable = new Recorder(() => Promise.reject(notImplemented("not this")));
  const able = new Recorder();
  await call([unable, able])(ctx, { source: registry, destination: store });
  assert.equal(unable.calls.length, 1);
  assert.deepEqual(
    able.calls[0]?.map(({ kind }) => kind),
    ["registry", "store"],
  );
});

test("what no transferrer does names both types and why; unknown types are no errors of their own", async () => {
  const unknown = anyToWire({ typeUrl: "test.Unknown", value: Buffer.from([255]) });
  const unable = new Recorder(() => Promise.reject(notImplemented("not this")));
  for (const [source, destination, message] of [
    [
      registry,
      store,
      /types\.transfer\.OCIRegistry to containerd\.types\.transfer\.ImageStore: not this: not implemented$/,
    ],
    [unknown, store, /method Transfer not implemented for test\.Unknown to containerd\.[\w.]*$/],
  ] as const) {
    const refused = call([unable])(ctx, { source, destination });
    await assert.rejects(refused, { code: "not-implemented", message });
  }
});

test("a request without its parts, or with streams that nobody opened, is refused", async () => {
  const transfer = call([new Recorder()]);
  const refused = { code: "invalid-argument" };
  await assert.rejects(transfer(ctx, { source: registry }), refused);
  await assert.rejects(transfer(ctx, { destination: store }), refused);
  const malformed = { ...store, value: Buffer.from([10, 200]) };
  await assert.rejects(transfer(ctx, { source: malformed, destination: store }), refused);
  const stream = anyToWire(toAny(ImageImportStreamSchema, { stream: "nobody" }));
  const missing = { code: "not-found" };
  await assert.rejects(transfer(ctx, { source: stream, destination: store }), missing);
  const options = { progressStream: "nobody" };
  await assert.rejects(transfer(ctx, { source: registry, destination: store, options }), missing);
});

test("progress has left before the answer, and its stream is closed", async () => {
  const streams = new LocalStreams();
  const stream = new SentStream(100);
  using _registered = streams.register(ctx, "progress", stream);
  const steps = new Recorder(async (options) => {
    for (let i = 0; i < 50; i++) options?.progress?.({ event: "downloading", doneBytes: i });
  });
  const options = { progressStream: "progress" };
  await call([steps], streams)(ctx, { source: registry, destination: store, options });
  assert.equal(stream.sent.length, 50);
  assert.ok(stream.isClosed);
});

test("a client that reads no progress holds up nothing, and its leaving ends the wait for it", async () => {
  const streams = new LocalStreams();
  const stream = new SentStream(3);
  using _registered = streams.register(ctx, "progress", stream);
  const isDone = Promise.withResolvers<void>();
  const steps = new Recorder(async (options) => {
    for (let i = 0; i < 100_000; i++) options?.progress?.({ event: "downloading", doneBytes: i });
    isDone.resolve();
  });
  const options = { progressStream: "progress" };
  const controller = new AbortController();
  const scoped = ctx.withSignal(controller.signal);
  const answered = call([steps], streams)(scoped, {
    source: registry,
    destination: store,
    options,
  });
  await isDone.promise;
  controller.abort();
  await answered;
  assert.equal(stream.sent.length, 3);
  assert.ok(stream.isClosed);
});
