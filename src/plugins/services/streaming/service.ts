import { setImmediate as nextTurn } from "node:timers/promises";
import type { Any as AnyMessage } from "@bufbuild/protobuf/wkt";
import { Streaming } from "#api/services/streaming/v1/streaming_pb.ts";
import { CallStream } from "#core/streaming/call-stream.ts";
import { anyFromWire, anyToWire, emptyAny, initFromAny } from "#core/streaming/convert.ts";
import { Outbox } from "#core/streaming/outbox.ts";
import type { StreamManager } from "#core/streaming/streaming.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, wrap } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { settledOrAborted } from "#pkg/until.ts";

/** A call that does not say which stream it is takes up a place for nothing. */
const initTimeoutMs = 10_000;

/** containerd.services.streaming.v1.Streaming */
export function streamingService(streams: StreamManager): Service {
  return serve(Streaming, {
    stream: (ctx, requests) => serveStream(streams, ctx, requests),
  });
}

/** Lives as long as the call; whoever gets the stream by its name may end it earlier. */
async function* serveStream(
  streams: StreamManager,
  ctx: Context,
  requests: AsyncIterable<AnyMessage>,
): AsyncGenerator<AnyMessage, void, undefined> {
  const incoming = messages(ctx, requests);
  // Never told to return: that would wait for a message that may not come before this call ends.
  const outbox = new Outbox();
  const onAbort = (): void => outbox.end();
  ctx.signal.addEventListener("abort", onAbort, { once: true });
  try {
    const name = await readInit(ctx.withTimeout(initTimeoutMs), incoming);
    using _registered = streams.register(ctx, name, new CallStream(incoming, outbox));
    yield anyToWire(emptyAny);
    for await (const message of outbox.messages()) yield anyToWire(message);
  } finally {
    outbox.end();
    ctx.signal.removeEventListener("abort", onAbort);
  }
}

async function readInit(ctx: Context, incoming: AsyncIterator<Any>): Promise<string> {
  const next = incoming.next();
  next.catch(() => {}); // it fails with the call, when nobody waits for it any more
  const first = await settledOrAborted(next, ctx);
  if (first.done === true) throw invalidArgument("first message must name the stream");
  try {
    return initFromAny(first.value);
  } catch (error) {
    throw wrap("first message", error);
  }
}

async function* messages(
  ctx: Context,
  requests: AsyncIterable<AnyMessage>,
): AsyncGenerator<Any, void, undefined> {
  for await (const request of requests) yield anyFromWire(request);
  // A stream that was reset reads as ended first; half an archive must not be taken for a whole one.
  await nextTurn();
  ctx.throwIfEnded();
}
