import type { DescMethod, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import type { Client, Transport } from "./service.ts";

/**
 * A typed client of one service over any transport.
 *
 * It owns nothing: closing the transport ends it. A streaming call starts when it is made, not when it is first
 * read; whoever makes one reads it to its end, leaves the loop, or ends its context.
 */
export function createClient<S extends DescService>(desc: S, transport: Transport): Client<S> {
  const callers: Record<string, unknown> = {};
  for (const method of desc.methods) callers[method.localName] = callerOf(method, transport);
  return callers as Client<S>; // -- one caller per method of the descriptor, by kind
}

function callerOf(method: DescMethod, transport: Transport): unknown {
  type Init = MessageInitShape<DescMethod["input"]>;
  switch (method.methodKind) {
    case "unary":
      return (ctx: Context, request: Init) => transport.unary(ctx, method, request);
    case "server_streaming":
      return (ctx: Context, request: Init) => transport.stream(ctx, method, only(request));
    case "client_streaming":
      return (ctx: Context, requests: AsyncIterable<Init>) =>
        single(method, transport.stream(ctx, method, requests));
    case "bidi_streaming":
      return (ctx: Context, requests: AsyncIterable<Init>) =>
        transport.stream(ctx, method, requests);
  }
}

async function* only<T>(item: T): AsyncGenerator<T> {
  yield item;
}

async function single(
  method: DescMethod,
  responses: AsyncIterable<MessageShape<DescMethod["output"]>>,
): Promise<MessageShape<DescMethod["output"]>> {
  let response: MessageShape<DescMethod["output"]> | undefined;
  for await (const message of responses) {
    if (response !== undefined) throw new CodedError("internal", `${method.name}: two responses`);
    response = message;
  }
  if (response === undefined) throw new CodedError("internal", `${method.name}: no response`);
  return response;
}
