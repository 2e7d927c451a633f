import { CallStream } from "#core/streaming/call-stream.ts";
import { Outbox } from "#core/streaming/outbox.ts";
import type { Stream } from "#core/streaming/streaming.ts";
import type { Any } from "#pkg/any.ts";
import { MessageQueue } from "#pkg/rpc/message-queue.ts";

/** Two ends of a stream, with a wire between them that takes what comes, as far as its buffer goes. */
export function streamPair(): [Stream, Stream] {
  const [a, b] = [new Outbox(), new Outbox()];
  return [new CallStream(wire(b), a), new CallStream(wire(a), b)];
}

function wire(outbox: Outbox): AsyncIterator<Any> {
  const queue = new MessageQueue<Any>(64);
  void (async () => {
    for await (const message of outbox.messages()) {
      if (!queue.offer(message)) break;
    }
    queue.end();
  })();
  return queue;
}
