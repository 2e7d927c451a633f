import type { Socket } from "node:net";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Context } from "#pkg/context.ts";
import { CodedError, codeOf, messageOf } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { CallScope } from "#pkg/rpc/call-scope.ts";
import { MessageQueue } from "#pkg/rpc/message-queue.ts";
import { decodeMessage, encodeMessage, type Route, type Routes } from "#pkg/rpc/routes.ts";
import { statusOf } from "#pkg/rpc/status.ts";
import { Connection } from "./connection.ts";
import { decodeRequest, encodeResponse, type Request } from "./envelope.ts";
import {
  FLAG_NO_DATA,
  FLAG_REMOTE_CLOSED,
  type Frame,
  MESSAGE_DATA,
  MESSAGE_REQUEST,
  MESSAGE_RESPONSE,
  oversized,
  STREAM_QUEUE_MESSAGES_MAX,
} from "./frame.ts";
import { deliver } from "./stream-queue.ts";

export const NAMESPACE_KEY = "containerd-namespace-ttrpc";

const NOTHING = new Uint8Array();

interface Call {
  readonly scope: CallScope;
  /** Absent for methods that take one request. */
  readonly requests: MessageQueue<Uint8Array> | undefined;
}

export interface ServerConnectionOptions {
  readonly routes: Routes;
  readonly logger: Logger;
  readonly callsMax: number;
  readonly onClose: () => void;
}

/** The server's side of one connection: its calls, and what may come on them. */
export class ServerConnection {
  readonly #options: ServerConnectionOptions;
  readonly #connection: Connection;
  /** Calls that may still be answered; one that ended early leaves while its handler still winds down. */
  readonly #calls = new Map<number, Call>();
  #lastStreamId = 0;
  #closing = false;

  constructor(socket: Socket, options: ServerConnectionOptions) {
    this.#options = options;
    this.#connection = new Connection(socket);
    this.#connection.onFrame = (frame) => this.#onFrame(frame);
    this.#connection.onClose = () => {
      for (const call of this.#calls.values()) this.#abandon(call);
      this.#calls.clear();
      options.onClose();
    };
  }

  /** Ends the connection when no call is left on it. */
  close(): void {
    this.#closing = true;
    if (this.#calls.size === 0) this.#connection.end();
  }

  destroy(): void {
    this.#connection.destroy();
  }

  #onFrame(frame: Frame): Promise<void> | undefined {
    const { streamId } = frame;
    if (frame.oversizedBytes !== undefined) {
      this.#refuse(streamId, oversized(frame.oversizedBytes));
    } else if (streamId % 2 !== 1) {
      this.#refuse(streamId, invalid("StreamID must be odd for client initiated streams"));
    } else if (frame.type === MESSAGE_DATA) {
      return this.#onData(frame);
    } else if (frame.type === MESSAGE_REQUEST) {
      this.#onRequest(frame);
    }
    // Other types are for versions to come.
    return undefined;
  }

  #onData(frame: Frame): Promise<void> | undefined {
    const call = this.#calls.get(frame.streamId);
    const queue = call?.requests;
    if (!call || !queue) {
      this.#refuse(frame.streamId, invalid("StreamID is no longer active"));
      return undefined;
    }
    const last = (frame.flags & FLAG_REMOTE_CLOSED) !== 0;
    if ((frame.flags & FLAG_NO_DATA) !== 0) {
      if (last) queue.end();
      return undefined;
    }
    const finish = (problem: CodedError | undefined): void => {
      if (problem) this.#refuse(frame.streamId, invalid(`data handling error: ${problem.message}`));
      else if (last) queue.end();
    };
    const wait = deliver(queue, frame.payload);
    if (wait instanceof Promise) return wait.then(finish);
    finish(wait);
    return undefined;
  }

  #onRequest(frame: Frame): void {
    const { streamId } = frame;
    if (streamId <= this.#lastStreamId) {
      this.#refuse(streamId, invalid("StreamID cannot be re-used and must increment"));
      return;
    }
    this.#lastStreamId = streamId;
    try {
      const request = parseRequest(frame.payload);
      const route = this.#findRoute(request);
      if (this.#calls.size >= this.#options.callsMax) {
        throw new CodedError(
          "resource-exhausted",
          `more than ${this.#options.callsMax} calls at once on one connection`,
        );
      }
      this.#start(streamId, route, request, (frame.flags & FLAG_REMOTE_CLOSED) !== 0);
    } catch (error) {
      this.#refuse(streamId, error);
    }
  }

  #findRoute({ service, method }: Request): Route & { handler: object } {
    const { routes } = this.#options;
    if (!routes.hasService(service)) throw unimplemented(`service ${service}`);
    const route = routes.find(service, method);
    if (!route?.handler) throw unimplemented(`method ${method}`);
    return { ...route, handler: route.handler };
  }

  #start(streamId: number, route: Route, request: Request, last: boolean): void {
    const kind = route.method.methodKind;
    const streaming = kind === "client_streaming" || kind === "bidi_streaming";
    const scope = new CallScope(Context.background({ logger: this.#options.logger }), {
      namespace: request.metadata.find(([key]) => key === NAMESPACE_KEY)?.[1],
      lease: undefined,
      timeoutMs: request.timeoutNano === 0n ? undefined : Number(request.timeoutNano) / 1e6,
    });
    const requests = streaming
      ? new MessageQueue<Uint8Array>(STREAM_QUEUE_MESSAGES_MAX)
      : undefined;
    if (requests) {
      // A first message may ride on the request itself.
      if (request.payload.length > 0) requests.offer(request.payload);
      if (last) requests.end();
      scope.ctx.signal.addEventListener("abort", () => requests.fail(scope.error()));
    }
    const call = { scope, requests };
    this.#calls.set(streamId, call);
    void this.#run(streamId, call, route, request);
  }

  async #run(streamId: number, call: Call, route: Route, request: Request): Promise<void> {
    try {
      await this.#answer(streamId, call, route, request);
    } catch (error) {
      this.#logUnknown(error, request);
      if (this.#calls.get(streamId) === call) this.#sendResponse(streamId, error, NOTHING);
    } finally {
      call.scope.end();
      call.requests?.end();
      if (this.#calls.get(streamId) === call) this.#calls.delete(streamId);
      if (this.#closing && this.#calls.size === 0) this.#connection.end();
    }
  }

  async #answer(streamId: number, call: Call, route: Route, request: Request): Promise<void> {
    const { method } = route;
    const handler = route.handler as (ctx: Context, input: unknown) => unknown; // -- as `serve` took it
    const input = call.requests
      ? messages(method.input, call.requests)
      : parseMessage(method.input, request.payload);
    const output = handler(call.scope.ctx, input);
    if (method.methodKind === "unary" || method.methodKind === "client_streaming") {
      const response = (await output) as MessageInitShape<DescMessage>; // -- typed by `serve`
      if (this.#calls.get(streamId) !== call) return;
      this.#sendResponse(streamId, undefined, encodeMessage(method.output, response));
      return;
    }
    const responses = output as AsyncIterable<MessageInitShape<DescMessage>>; // -- typed by `serve`
    for await (const response of responses) {
      if (this.#calls.get(streamId) !== call) return;
      this.#connection.send(streamId, MESSAGE_DATA, 0, encodeMessage(method.output, response));
      await this.#connection.drained();
    }
    if (this.#calls.get(streamId) !== call) return;
    this.#connection.send(streamId, MESSAGE_DATA, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, NOTHING);
  }

  /** Answers with an error and forgets the stream, so that the peer knows which id was bad. */
  #refuse(streamId: number, error: unknown): void {
    const call = this.#calls.get(streamId);
    this.#calls.delete(streamId);
    this.#sendResponse(streamId, error, NOTHING);
    if (call) this.#abandon(call);
  }

  #abandon(call: Call): void {
    call.scope.cancel();
    call.requests?.fail(call.scope.error());
  }

  #sendResponse(streamId: number, error: unknown, payload: Uint8Array): void {
    const status = error === undefined ? { code: 0, message: "", details: [] } : statusOf(error);
    this.#connection.send(streamId, MESSAGE_RESPONSE, 0, encodeResponse({ status, payload }));
  }

  #logUnknown(error: unknown, { service, method }: Request): void {
    if (codeOf(error) !== "unknown") return;
    this.#options.logger.error("ttrpc call failed", { service, method, error });
  }
}

function parseRequest(payload: Uint8Array): Request {
  try {
    return decodeRequest(payload);
  } catch (cause) {
    throw new CodedError("invalid-argument", `unmarshal request error: ${messageOf(cause)}`, {
      cause,
    });
  }
}

function parseMessage<D extends DescMessage>(desc: D, payload: Uint8Array): MessageShape<D> {
  try {
    return decodeMessage(desc, payload);
  } catch (cause) {
    const message = `ttrpc: error unmarshalling payload: ${messageOf(cause)}`;
    throw new CodedError("internal", message, { cause });
  }
}

async function* messages<D extends DescMessage>(
  desc: D,
  payloads: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageShape<D>> {
  for await (const payload of payloads) yield parseMessage(desc, payload);
}

function invalid(message: string): CodedError {
  return new CodedError("invalid-argument", message);
}

function unimplemented(message: string): CodedError {
  return new CodedError("not-implemented", message);
}
