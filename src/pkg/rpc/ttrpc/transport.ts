import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Context } from "#pkg/context.ts";
import { CodedError, messageOf, unavailable } from "#pkg/errors.ts";
import { MessageQueue } from "#pkg/rpc/message-queue.ts";
import { encodeMessage } from "#pkg/rpc/routes.ts";
import type { Transport } from "#pkg/rpc/service.ts";
import { Connection } from "./connection.ts";
import { encodeRequest, type Response } from "./envelope.ts";
import {
  FLAG_NO_DATA,
  FLAG_REMOTE_CLOSED,
  FLAG_REMOTE_OPEN,
  type Frame,
  MESSAGE_DATA,
  MESSAGE_REQUEST,
  STREAM_QUEUE_MESSAGES_MAX,
} from "./frame.ts";
import { isLast, parseMessage, parseResponse, responses } from "./response.ts";
import { NAMESPACE_KEY } from "./server-connection.ts";
import { deliver } from "./stream-queue.ts";

const STREAM_ID_MAX = 2 ** 32 - 1;
const CALLS_MAX = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
const NOTHING = new Uint8Array();

/** One call as the receiving side sees it. */
interface Call {
  onFrame(frame: Frame): Promise<void> | undefined;
  fail(error: CodedError): void;
}

interface Stream {
  readonly frames: MessageQueue<Frame>;
  /** Undefined until it is opened. */
  streamId: number | undefined;
  sendClosed: boolean;
}

/**
 * The calling side of one ttrpc connection. It does not reconnect: when the connection is lost every call fails with
 * `unavailable` and the text "ttrpc: closed", and so does each one after.
 *
 * The protocol cannot cancel: a call whose context ends is forgotten here while the server goes on, until the
 * deadline it was told.
 */
export class TtrpcTransport implements Transport {
  /** Resolves when the connection is gone, by whichever side. */
  readonly closed: Promise<void>;

  readonly #connection: Connection;
  readonly #calls = new Map<number, Call>();
  #nextStreamId = 1;

  /** Takes a connected socket over. */
  constructor(socket: Socket) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#connection = new Connection(socket);
    this.#connection.onFrame = (frame) => this.#onFrame(frame);
    this.#connection.onClose = (error) => {
      for (const call of this.#calls.values()) call.fail(connectionClosed(error));
      this.#calls.clear();
      resolve();
    };
  }

  /** Throws `unavailable`, with the system's error as its cause, when nobody answers at the path. */
  static async connect(ctx: Context, path: string): Promise<TtrpcTransport> {
    const bounded = ctx.withTimeout(CONNECT_TIMEOUT_MS);
    bounded.throwIfEnded();
    const socket = connect(path);
    try {
      await once(socket, "connect", { signal: bounded.signal });
    } catch (cause) {
      socket.destroy();
      ctx.throwIfEnded();
      throw new CodedError("unavailable", `connect to "${path}": ${messageOf(cause)}`, { cause });
    }
    return new TtrpcTransport(socket);
  }

  get isOpen(): boolean {
    return this.#connection.isOpen;
  }

  async unary<M extends DescMethod>(
    ctx: Context,
    method: M,
    request: MessageInitShape<M["input"]>,
  ): Promise<MessageShape<M["output"]>> {
    const payload = encodeMessage<M["input"]>(method.input, request);
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const streamId = this.#open(ctx, method, payload, 0, {
      fail: reject,
      onFrame: (frame) => {
        this.#calls.delete(streamId);
        try {
          resolve(parseResponse(frame));
        } catch (error) {
          reject(error);
        }
        return undefined;
      },
    });
    const onAbort = (): void => {
      this.#calls.delete(streamId);
      reject(endedError(ctx));
    };
    ctx.signal.addEventListener("abort", onAbort, { once: true });
    try {
      return parseMessage<M["output"]>(method.output, await promise);
    } finally {
      ctx.signal.removeEventListener("abort", onAbort);
    }
  }

  stream<M extends DescMethod>(
    ctx: Context,
    method: M,
    requests: AsyncIterable<MessageInitShape<M["input"]>>,
  ): AsyncIterable<MessageShape<M["output"]>> {
    const frames = new MessageQueue<Frame>(STREAM_QUEUE_MESSAGES_MAX);
    const stream: Stream = { frames, streamId: undefined, sendClosed: false };
    const leave = (): void => {
      ctx.signal.removeEventListener("abort", onAbort);
      this.#leave(stream);
    };
    const fail = (error: unknown): void => {
      frames.fail(error instanceof Error ? error : new CodedError("unknown", messageOf(error)));
      leave();
    };
    const onAbort = (): void => fail(endedError(ctx));
    ctx.signal.addEventListener("abort", onAbort, { once: true });
    this.#send(ctx, method, requests, stream).catch(fail);
    return responses(method, frames, leave);
  }

  async close(): Promise<void> {
    this.#connection.destroy();
    await this.closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Forgets a stream. A server that still waits for requests is told that none come. */
  #leave(stream: Stream): void {
    const { streamId } = stream;
    if (streamId === undefined || !this.#calls.delete(streamId)) return;
    this.#closeSend(streamId, stream);
  }

  #closeSend(streamId: number, stream: Stream): void {
    if (stream.sendClosed) return;
    stream.sendClosed = true;
    this.#connection.send(streamId, MESSAGE_DATA, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, NOTHING);
  }

  /** Opens the call, then sends what the caller gives, as fast as the server takes it. */
  async #send<M extends DescMethod>(
    ctx: Context,
    method: M,
    requests: AsyncIterable<MessageInitShape<M["input"]>>,
    stream: Stream,
  ): Promise<void> {
    const call = this.#streamCall(stream.frames);
    const input: M["input"] = method.input;
    if (method.methodKind === "server_streaming") {
      for await (const request of requests) {
        const payload = encodeMessage(input, request);
        stream.sendClosed = true;
        stream.streamId = this.#open(ctx, method, payload, FLAG_REMOTE_CLOSED, call);
        // The reader may have left before the request came.
        if (!stream.frames.isOpen) this.#leave(stream);
        return;
      }
      throw new CodedError("internal", `${method.name}: no request`);
    }
    const streamId = this.#open(ctx, method, NOTHING, FLAG_REMOTE_OPEN, call);
    stream.streamId = streamId;
    if (!stream.frames.isOpen) this.#leave(stream);
    for await (const request of requests) {
      if (!this.#calls.has(streamId)) return;
      this.#connection.send(streamId, MESSAGE_DATA, 0, encodeMessage(input, request));
      await this.#connection.drained();
    }
    if (this.#calls.has(streamId)) this.#closeSend(streamId, stream);
  }

  #streamCall(frames: MessageQueue<Frame>): Call {
    return {
      fail: (error) => frames.fail(error),
      onFrame: (frame) => {
        if (isLast(frame)) this.#calls.delete(frame.streamId);
        const finish = (problem: CodedError | undefined): void => {
          if (problem) {
            this.#calls.delete(frame.streamId);
            frames.fail(problem);
          } else if (isLast(frame)) {
            frames.end();
          }
        };
        const wait = deliver(frames, frame);
        if (wait instanceof Promise) return wait.then(finish);
        finish(wait);
        return undefined;
      },
    };
  }

  #open(ctx: Context, method: DescMethod, payload: Uint8Array, flags: number, call: Call): number {
    ctx.throwIfEnded();
    if (!this.isOpen) throw connectionClosed();
    if (this.#calls.size >= CALLS_MAX) {
      throw new CodedError("resource-exhausted", `more than ${CALLS_MAX} calls at once`);
    }
    const streamId = this.#nextStreamId;
    if (streamId > STREAM_ID_MAX) {
      this.#connection.destroy();
      throw unavailable("ttrpc: out of stream ids");
    }
    const request = encodeRequest({
      service: method.parent.typeName,
      method: method.name,
      payload,
      timeoutNano: timeoutNano(ctx),
      metadata: ctx.namespace === undefined ? [] : [[NAMESPACE_KEY, ctx.namespace]],
    });
    this.#connection.send(streamId, MESSAGE_REQUEST, flags, request);
    this.#nextStreamId += 2;
    this.#calls.set(streamId, call);
    return streamId;
  }

  #onFrame(frame: Frame): Promise<void> | undefined {
    // A frame for no call answers one whose caller has gone.
    return this.#calls.get(frame.streamId)?.onFrame(frame);
  }
}

function timeoutNano(ctx: Context): bigint {
  if (ctx.deadlineMs === undefined) return 0n;
  // Zero would mean no deadline.
  return BigInt(Math.max(1, Math.round((ctx.deadlineMs - Date.now()) * 1e6)));
}

function endedError(ctx: Context): CodedError {
  try {
    ctx.throwIfEnded();
  } catch (error) {
    if (error instanceof CodedError) return error;
  }
  return new CodedError("canceled", "context canceled");
}

function connectionClosed(cause?: Error): CodedError {
  return new CodedError("unavailable", "ttrpc: closed", { cause });
}
