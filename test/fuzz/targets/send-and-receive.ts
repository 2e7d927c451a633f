import assert from "node:assert/strict";
import fc from "fast-check";
import type { Stream } from "#core/streaming/streaming.ts";
import { ByteSender, receiveBytes } from "#core/transfer/byte-stream.ts";
import { byteStreamMessage } from "#core/transfer/convert.ts";
import { Context } from "#pkg/context.ts";
import { TaskGroup } from "#pkg/task-group.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";
import { streamPair } from "#test/support/stream-pair.ts";

const chunks = fc.array(fc.record({ sizeBytes: fc.nat(150_000), fill: fc.nat(255) }), {
  maxLength: 5,
});
type Chunks = typeof chunks extends fc.Arbitrary<infer T> ? T : never;

const stranger = { typeUrl: "containerd.types.Platform", value: Buffer.from([255]) };

/** Counts what was granted and what was sent, and mixes in messages that mean nothing. */
function watched(stream: Stream, strangers: number): Stream {
  let granted = 0;
  let left = strangers;
  return {
    async send(ctx, message) {
      if (left-- > 0) await stream.send(ctx, stranger);
      const parsed = byteStreamMessage(message);
      if (parsed?.kind === "data") granted -= parsed.data.length;
      assert.ok(granted >= 0, "more was sent than was granted");
      return stream.send(ctx, message);
    },
    async receive(ctx) {
      const message = await stream.receive(ctx);
      const parsed = message && byteStreamMessage(message);
      if (parsed?.kind === "window") granted += parsed.bytes;
      return message;
    },
    flush: (ctx) => stream.flush(ctx),
    close: () => stream.close(),
  };
}

async function send(ctx: Context, stream: Stream, pieces: readonly Buffer[]): Promise<void> {
  const sender = new ByteSender(stream);
  for (const piece of pieces) await sender.write(ctx, piece);
  await sender.finish(ctx);
}

/** Bytes arrive whole and in order, two streams at once in opposite directions, and never more than was asked for. */
export const target = fuzzTarget({
  name: "SendAndReceive",
  smokeRuns: 30,
  inputs: fc.record({ there: chunks, back: chunks, strangers: fc.nat(3) }),
  async check({ there, back, strangers }) {
    const ctx = Context.background();
    await using group = new TaskGroup(ctx.signal);
    const carry = async (given: Chunks): Promise<void> => {
      const [from, to] = streamPair();
      const pieces = given.map(({ sizeBytes, fill }) => Buffer.alloc(sizeBytes, fill));
      group.go(() => send(ctx, watched(from, strangers), pieces));
      const received = Buffer.concat(await Array.fromAsync(receiveBytes(ctx, to)));
      assert.ok(received.equals(Buffer.concat(pieces)));
    };
    await Promise.all([carry(there), carry(back)]);
    await group.wait();
  },
});
