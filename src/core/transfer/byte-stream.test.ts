import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteSender, receiveBytes } from "#core/transfer/byte-stream.ts";
import { byteStreamMessage, dataToAny, windowToAny } from "#core/transfer/convert.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { TaskGroup } from "#pkg/task-group.ts";
import { streamPair } from "#test/support/stream-pair.ts";

const ctx = Context.background();

async function collect(bytes: AsyncIterable<Buffer>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(bytes));
}

async function carry(chunks: readonly Uint8Array[]): Promise<Buffer> {
  const [from, to] = streamPair();
  const sender = new ByteSender(from);
  await using group = new TaskGroup(ctx.signal);
  group.go(async () => {
    for (const chunk of chunks) await sender.write(ctx, chunk);
    await sender.finish(ctx);
  });
  const received = await collect(receiveBytes(ctx, to));
  await group.wait();
  return received;
}

test("bytes arrive as they were sent, none, few and many", async () => {
  const big = Buffer.alloc(3_000_000, "0123456789");
  for (const chunks of [[], [Buffer.alloc(0)], [Buffer.from("x")], [big], [big, big]]) {
    assert.ok((await carry(chunks)).equals(Buffer.concat(chunks)));
  }
  const sizes = fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(sizes, async (lengths) => {
      const chunks = lengths.map((length, i) => Buffer.alloc(length, `${i}:`));
      assert.ok((await carry(chunks)).equals(Buffer.concat(chunks)));
    }),
    { numRuns: 20 },
  );
});

test("no message is larger than 32 KiB and none goes beyond what was granted", async () => {
  const [from, to] = streamPair();
  const sender = new ByteSender(from);
  const sent = sender.write(ctx, Buffer.alloc(100_000));
  let granted = 0;
  const lengths: number[] = [];
  for (let left = 100_000; left > 0; ) {
    if (granted === 0) {
      await to.send(ctx, windowToAny(50_000));
      granted = 50_000;
    }
    const message = await to.receive(ctx);
    const parsed = message && byteStreamMessage(message);
    assert.equal(parsed?.kind, "data");
    lengths.push(parsed.data.length);
    granted -= parsed.data.length;
    assert.ok(granted >= 0);
    left -= parsed.data.length;
  }
  await sent;
  assert.deepEqual(lengths, [32_768, 17_232, 32_768, 17_232]);
});

test("the receiver grants 64 KiB at once, and again when less is left, a large message counting whole", async () => {
  const [from, to] = streamPair();
  const received = receiveBytes(ctx, to);
  const first = received.next();
  const grant = async (): Promise<number> => {
    const message = await from.receive(ctx);
    const parsed = message && byteStreamMessage(message);
    assert.equal(parsed?.kind, "window");
    return parsed.bytes;
  };
  assert.equal(await grant(), 65_536);
  await from.send(ctx, dataToAny(Buffer.alloc(200_000)));
  assert.equal((await first).value?.length, 200_000);
  const rest = collect(received);
  assert.equal(await grant(), 65_536);
  await from.close();
  assert.equal((await rest).length, 0);
});

test("a receiver that leaves early ends the stream, and the sender fails", async () => {
  const [from, to] = streamPair();
  const sender = new ByteSender(from);
  const sent = assert.rejects(sender.write(ctx, Buffer.alloc(1 << 20)), (error) => {
    return codeOf(error) === "unavailable";
  });
  for await (const _ of receiveBytes(ctx, to)) break;
  await sent;
});

test("messages of other types are passed over and hostile windows refused", async () => {
  const [from, to] = streamPair();
  await from.send(ctx, { typeUrl: "containerd.types.Platform", value: Buffer.from([255]) });
  await from.send(ctx, windowToAny(7));
  await from.send(ctx, dataToAny(Buffer.from("data")));
  await from.close();
  assert.equal(String(await collect(receiveBytes(ctx, to))), "data");

  const [a, b] = streamPair();
  const sender = new ByteSender(a);
  const refused = assert.rejects(
    sender.write(ctx, Buffer.alloc(1)),
    /window update -1 is negative/,
  );
  await b.send(ctx, windowToAny(-1));
  await refused;
  await b.send(ctx, { typeUrl: "containerd.types.transfer.WindowUpdate", value: Buffer.from([8]) });
  await assert.rejects(sender.write(ctx, Buffer.alloc(1)), { code: "invalid-argument" });
  await b.send(ctx, windowToAny(2 ** 31 - 1));
  await b.send(ctx, windowToAny(2 ** 31 - 1));
  await sender.write(ctx, Buffer.alloc(1));
});

test("a wait for a window ends with its context", async () => {
  const [from] = streamPair();
  const controller = new AbortController();
  const waiting = new ByteSender(from).write(ctx.withSignal(controller.signal), Buffer.alloc(1));
  controller.abort();
  await assert.rejects(waiting, { code: "canceled" });
});
