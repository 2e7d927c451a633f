import type { DescMethod, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Context } from "#pkg/context.ts";

/**
 * One service shape, two wires: gRPC and ttrpc both serve handlers of these types, and both give clients of them.
 *
 * A handler gets a context that carries the namespace and lease the client sent and whose signal aborts when the
 * client cancels, its deadline passes or its connection ends. It throws coded errors; the server turns them into a
 * status. Streams are pulled: a handler that is not asked for its next message waits (backpressure).
 */
export type Handler<M extends DescMethod> = M["methodKind"] extends "unary"
  ? (ctx: Context, request: MessageShape<M["input"]>) => Promise<MessageInitShape<M["output"]>>
  : M["methodKind"] extends "server_streaming"
    ? (
        ctx: Context,
        request: MessageShape<M["input"]>,
      ) => AsyncIterable<MessageInitShape<M["output"]>>
    : M["methodKind"] extends "client_streaming"
      ? (
          ctx: Context,
          requests: AsyncIterable<MessageShape<M["input"]>>,
        ) => Promise<MessageInitShape<M["output"]>>
      : (
          ctx: Context,
          requests: AsyncIterable<MessageShape<M["input"]>>,
        ) => AsyncIterable<MessageInitShape<M["output"]>>;

/** Handlers by the method's local name. A method left out answers Unimplemented. */
export type Handlers<S extends DescService> = {
  readonly [K in keyof S["method"]]?: Handler<S["method"][K]>;
};

/** A service ready to be put on a server; its handlers are typed where it was made with `serve`. */
export interface Service {
  readonly desc: DescService;
  readonly handlers: Readonly<Record<string, (ctx: Context, input: never) => unknown>>;
}

export function serve<S extends DescService>(desc: S, handlers: Handlers<S>): Service {
  return { desc, handlers: handlers as Service["handlers"] };
}

/** The caller's side of a method; `ctx` gives namespace, lease, deadline and cancel. */
export type Caller<M extends DescMethod> = M["methodKind"] extends "unary"
  ? (ctx: Context, request: MessageInitShape<M["input"]>) => Promise<MessageShape<M["output"]>>
  : M["methodKind"] extends "server_streaming"
    ? (
        ctx: Context,
        request: MessageInitShape<M["input"]>,
      ) => AsyncIterable<MessageShape<M["output"]>>
    : M["methodKind"] extends "client_streaming"
      ? (
          ctx: Context,
          requests: AsyncIterable<MessageInitShape<M["input"]>>,
        ) => Promise<MessageShape<M["output"]>>
      : (
          ctx: Context,
          requests: AsyncIterable<MessageInitShape<M["input"]>>,
        ) => AsyncIterable<MessageShape<M["output"]>>;

export type Client<S extends DescService> = {
  readonly [K in keyof S["method"]]: Caller<S["method"][K]>;
};

/** A connection that can call methods of any service; errors arrive as coded errors made from the status. */
export interface Transport extends AsyncDisposable {
  unary<M extends DescMethod>(
    ctx: Context,
    method: M,
    request: MessageInitShape<M["input"]>,
  ): Promise<MessageShape<M["output"]>>;
  stream<M extends DescMethod>(
    ctx: Context,
    method: M,
    requests: AsyncIterable<MessageInitShape<M["input"]>>,
  ): AsyncIterable<MessageShape<M["output"]>>;
  close(): Promise<void>;
}
