import { Streaming } from "#api/services/streaming/v1/streaming_pb.ts";
import type { Any as AnyMessage } from "@bufbuild/protobuf/wkt";
import { CallStream } from "#core/streaming/call-stream.ts";
import { anyFromWire, anyToWire, initToAny } from "#core/streaming/convert.ts";
import { Outbox } from "#core/streaming/outbox.ts";
import type { Stream, StreamCreator } from "#core/streaming/streaming.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { unavailable, wrap } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";

/** Streams of a daemon, over gRPC. A stream lives no longer than the context it was made with. */
export class GrpcStreams implements StreamCreator {
  readonly #client: Client<typeof Streaming>;

  constructor(transport: Transport) {
    this.#client = createClient(Streaming, transport);
  }

  /** Resolves when the daemon knows the stream by its name. */
  async create(ctx: Context, name: string): Promise<Stream> {
    const outbox = new Outbox();
    const ended = (): void => outbox.end();
    ctx.signal.addEventListener("abort", ended, { once: true });
    await outbox.send(ctx, initToAny(name));
    const answers = incoming(this.#client.stream(ctx, wireMessages(outbox)), outbox);
    const stream = new CallStream(answers, outbox);
    try {
      if ((await stream.receive(ctx)) === undefined) throw unavailable("it ended at once");
    } catch (error) {
      outbox.end();
      await answers.return(undefined);
      throw wrap(`create stream ${JSON.stringify(name)}`, error);
    }
    return stream;
  }
}

async function* wireMessages(outbox: Outbox): AsyncGenerator<AnyMessage, void, undefined> {
  for await (const message of outbox.messages()) yield anyToWire(message);
}

async function* incoming(
  messages: AsyncIterable<AnyMessage>,
  outbox: Outbox,
): AsyncGenerator<Any, void, undefined> {
  try {
    for await (const message of messages) yield anyFromWire(message);
  } finally {
    outbox.end();
  }
}
