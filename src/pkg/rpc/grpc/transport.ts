import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Context } from "#pkg/context.ts";
import { CodedError, messageOf, unavailable } from "#pkg/errors.ts";
import { decodeMessage, encodeMessage } from "#pkg/rpc/routes.ts";
import type { Transport } from "#pkg/rpc/service.ts";
import { ClientCall } from "./client-call.ts";
import { MESSAGE_BYTES_MAX } from "./message-reader.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const CONNECTION_WINDOW_BYTES = 16 << 20;

/** A unix socket's path, or a host and port. */
export type GrpcAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

export interface GrpcTransportOptions {
  readonly receiveBytesMax?: number;
  readonly sendBytesMax?: number;
  /** Called each time a connection that stood is gone, by whichever side. */
  readonly onDisconnect?: () => void;
}

/**
 * The calling side of gRPC over one connection, made when the first call needs it and again after it was lost.
 *
 * A call that finds no connection tries once to make one and fails `unavailable` when it cannot; a call whose
 * connection is lost under way fails `unavailable` too. Whether to call again is the caller's decision.
 */
export class GrpcTransport implements Transport {
  readonly #address: GrpcAddress;
  readonly #authority: string;
  readonly #limits: { readonly receiveBytesMax: number; readonly sendBytesMax: number };
  readonly #onDisconnect: () => void;
  #connection: Promise<ClientHttp2Session> | undefined;
  #session: ClientHttp2Session | undefined;
  #isClosed = false;

  constructor(address: GrpcAddress, options: GrpcTransportOptions = {}) {
    this.#address = address;
    this.#authority = "path" in address ? "localhost" : `${address.host}:${address.port}`;
    this.#onDisconnect = options.onDisconnect ?? (() => {});
    this.#limits = {
      receiveBytesMax: options.receiveBytesMax ?? MESSAGE_BYTES_MAX,
      sendBytesMax: options.sendBytesMax ?? MESSAGE_BYTES_MAX,
    };
  }

  async unary<M extends DescMethod>(
    ctx: Context,
    method: M,
    request: MessageInitShape<M["input"]>,
  ): Promise<MessageShape<M["output"]>> {
    const message = encodeMessage<M["input"]>(method.input, request);
    const call = await this.#call(ctx, method);
    try {
      void call.send(message);
      call.closeSend();
      const response = await call.next();
      if (response === undefined) throw new CodedError("internal", `${method.name}: no response`);
      // The status decides, and comes after the message.
      if ((await call.next()) !== undefined) {
        throw new CodedError("internal", `${method.name}: more than one response`);
      }
      return parse<M["output"]>(method.output, response);
    } finally {
      call.cancel();
    }
  }

  stream<M extends DescMethod>(
    ctx: Context,
    method: M,
    requests: AsyncIterable<MessageInitShape<M["input"]>>,
  ): AsyncIterable<MessageShape<M["output"]>> {
    const call = this.#call(ctx, method);
    // Whoever reads sees the failure; nobody has to.
    call.then((opened) => sendAll<M["input"]>(opened, method.input, requests)).catch(() => {});
    return receiveAll<M["output"]>(call, method.output);
  }

  /** Cuts off what runs; later calls fail `unavailable`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const pending = this.#connection;
    this.#session?.destroy();
    try {
      (await pending)?.destroy();
    } catch {
      // It never came to be.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #call(ctx: Context, method: DescMethod): Promise<ClientCall> {
    ctx.throwIfEnded();
    const session = this.#openSession() ?? (await this.#connect(ctx));
    return new ClientCall(ctx, session, {
      path: `/${method.parent.typeName}/${method.name}`,
      authority: this.#authority,
      ...this.#limits,
    });
  }

  #openSession(): ClientHttp2Session | undefined {
    const session = this.#session;
    return session && !session.closed && !session.destroyed ? session : undefined;
  }

  /** All callers that need a connection wait for the same attempt, each no longer than its own context. */
  async #connect(ctx: Context): Promise<ClientHttp2Session> {
    if (this.#isClosed) throw unavailable("the transport is closed");
    this.#connection ??= openSession(this.#address).then((session) => {
      this.#session = session;
      session.once("close", this.#onDisconnect);
      return session;
    });
    const connection = this.#connection;
    const forget = (): void => {
      if (this.#connection === connection) this.#connection = undefined;
    };
    connection.then(forget, forget);
    const { promise: ended, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(new CodedError("canceled", "context ended"));
    ctx.signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([connection, ended]);
    } catch (error) {
      ctx.throwIfEnded();
      throw error;
    } finally {
      ctx.signal.removeEventListener("abort", onAbort);
    }
  }
}

async function sendAll<D extends DescMessage>(
  call: ClientCall,
  desc: D,
  requests: AsyncIterable<MessageInitShape<D>>,
): Promise<void> {
  try {
    for await (const request of requests) {
      if (!call.isOpen) return;
      await call.send(encodeMessage(desc, request));
    }
    call.closeSend();
  } catch (cause) {
    call.fail(
      cause instanceof CodedError ? cause : new CodedError("unknown", messageOf(cause), { cause }),
    );
  }
}

async function* receiveAll<D extends DescMessage>(
  opened: Promise<ClientCall>,
  desc: D,
): AsyncGenerator<MessageShape<D>> {
  const call = await opened;
  try {
    for (let message = await call.next(); message; message = await call.next()) {
      yield parse(desc, message);
    }
  } finally {
    call.cancel();
  }
}

function parse<D extends DescMessage>(desc: D, message: Uint8Array): MessageShape<D> {
  try {
    return decodeMessage(desc, message);
  } catch (cause) {
    const text = `grpc: failed to unmarshal the received message: ${messageOf(cause)}`;
    throw new CodedError("internal", text, { cause });
  }
}

async function openSession(address: GrpcAddress): Promise<ClientHttp2Session> {
  const name = "path" in address ? address.path : `${address.host}:${address.port}`;
  const socket = "path" in address ? connect(address.path) : connect(address.port, address.host);
  try {
    await connected(socket);
  } catch (cause) {
    socket.destroy();
    throw new CodedError("unavailable", `connect to "${name}": ${messageOf(cause)}`, { cause });
  }
  const session = connectHttp2("http://localhost", {
    createConnection: () => socket,
    // MB; with the default a write of 8 MiB ends the connection.
    maxSessionMemory: 2048,
    maxHeaderListPairs: 1000,
    maxSendHeaderBlockLength: 1 << 20,
    settings: { enablePush: false, initialWindowSize: 1 << 20, maxHeaderListSize: 256 << 10 },
  });
  // The calls on it report the loss of a session.
  session.on("error", () => {});
  session.on("connect", () => {
    if (!session.destroyed) session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  });
  return session;
}

async function connected(socket: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => reject(new CodedError("unavailable", `no answer in ${CONNECT_TIMEOUT_MS} ms`)),
    CONNECT_TIMEOUT_MS,
  );
  socket.once("connect", resolve);
  socket.once("error", reject);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    socket.off("error", reject);
  }
}
