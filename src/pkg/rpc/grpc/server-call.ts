import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Context } from "#pkg/context.ts";
import { CodedError, codeOf, messageOf } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import type { CallObserver, ObservedCall } from "#pkg/rpc/call-observer.ts";
import { CallScope } from "#pkg/rpc/call-scope.ts";
import { decodeMessage, encodeMessage, type Route, type Routes } from "#pkg/rpc/routes.ts";
import { type Status, statusOf } from "#pkg/rpc/status.ts";
import { discardRest, MessageReader } from "./message-reader.ts";
import { writeMessage } from "./message-writer.ts";
import { statusHeaders } from "./status-headers.ts";
import { parseTimeoutMs } from "./timeout.ts";

const NAMESPACE_HEADER = "containerd-namespace";
const LEASE_HEADER = "containerd-lease";
const CONTENT_TYPE = "application/grpc";
const OK: Status = { code: 0, message: "", details: [] };
const CANCELED = 1;
/** RST_STREAM's code for a stream whose answer is complete although its request is not. */
const NO_ERROR = 0;
const LINGER_MS = 5_000;

export interface ServerCallOptions {
  readonly routes: Routes;
  readonly logger: Logger;
  readonly receiveBytesMax: number;
  readonly sendBytesMax: number;
  readonly observer?: CallObserver | undefined;
}

/** A request that HTTP itself refuses; anything else is answered with HTTP 200 and a gRPC status. */
class HttpRefusal extends CodedError {
  readonly httpStatus: number;

  constructor(httpStatus: number, error: CodedError) {
    super(error.code, error.message);
    this.httpStatus = httpStatus;
  }
}

/** Serves one stream; resolves when its handler has ended. Never rejects. */
export async function serveCall(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  rawHeaders: readonly string[],
  options: ServerCallOptions,
): Promise<void> {
  // A broken stream closes as well, and that ends the call.
  stream.on("error", () => {});
  const answer = new Answer(stream);
  let scope: CallScope | undefined;
  let observed: ObservedCall | undefined;
  let failure: Status | undefined;
  try {
    assertRequest(headers);
    const route = findRoute(options.routes, headers[":path"] ?? "");
    scope = openScope(headers, rawHeaders, options.logger);
    watch(stream, scope, answer);
    observed = options.observer?.begin(route.method);
    await runHandler(stream, headers, { answer, route, scope, options, observed });
  } catch (error) {
    if (codeOf(error) === "unknown") {
      options.logger.error("grpc call failed", { method: headers[":path"], error });
    }
    failure = statusOf(error);
    answer.finish(failure, error instanceof HttpRefusal ? error.httpStatus : 200);
  } finally {
    // A client that has left gets no status; neither is its call a success.
    observed?.ended((answer.status ?? failure)?.code ?? CANCELED);
    scope?.end();
    discardRest(stream);
  }
}

/** What is sent back on a stream: headers once, messages, one status. Later words are dropped. */
class Answer {
  readonly #stream: ServerHttp2Stream;
  #status: Status | undefined;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
  }

  /** What the client was told. */
  get status(): Status | undefined {
    return this.#status;
  }

  get isFinished(): boolean {
    return this.#status !== undefined || this.#stream.destroyed || this.#stream.closed;
  }

  send(message: Uint8Array, bytesMax: number): Promise<void> | undefined {
    if (this.isFinished) return undefined;
    if (message.length <= bytesMax) this.#open();
    return writeMessage(this.#stream, message, bytesMax);
  }

  finish(status: Status, httpStatus = 200): void {
    if (this.isFinished) return;
    this.#status = status;
    const stream = this.#stream;
    if (stream.headersSent) {
      stream.end();
      return;
    }
    const headers: Record<string, string | number> = {
      ":status": httpStatus,
      "content-type": CONTENT_TYPE,
      ...statusHeaders(status),
    };
    if (status.code === 12) headers["grpc-accept-encoding"] = "gzip";
    stream.respond(headers, { endStream: true });
    this.#release();
  }

  #open(): void {
    const stream = this.#stream;
    if (stream.headersSent) return;
    stream.respond({ ":status": 200, "content-type": CONTENT_TYPE }, { waitForTrailers: true });
    stream.on("wantTrailers", () => {
      stream.sendTrailers(statusHeaders(this.#status ?? OK));
      this.#release();
    });
  }

  /**
   * Ends a stream whose client goes on sending.
   *
   * Clients end it themselves when they see the status. A reset right behind the status would overtake it where the
   * socket is full, so it waits.
   */
  #release(): void {
    const stream = this.#stream;
    discardRest(stream);
    if (stream.readableEnded) return;
    const timer = setTimeout(() => stream.close(NO_ERROR), LINGER_MS).unref();
    stream.on("close", () => clearTimeout(timer));
  }
}

function assertRequest(headers: IncomingHttpHeaders): void {
  const contentType = headers["content-type"] ?? "";
  if (!/^application\/grpc([+;]|$)/.test(contentType)) {
    const text = `invalid gRPC request content-type ${JSON.stringify(contentType)}`;
    throw new HttpRefusal(415, new CodedError("invalid-argument", text));
  }
  const method = headers[":method"];
  if (method !== "POST") {
    const text = `Received a HEADERS frame with :method "${method}" which should be POST`;
    throw new HttpRefusal(405, new CodedError("internal", text));
  }
}

function findRoute(routes: Routes, path: string): Route {
  const slash = path.lastIndexOf("/");
  if (!path.startsWith("/") || slash === 0) {
    throw new CodedError("not-implemented", `malformed method name: ${JSON.stringify(path)}`);
  }
  const service = path.slice(1, slash);
  const method = path.slice(slash + 1);
  const route = routes.find(service, method);
  if (route) return route;
  throw new CodedError(
    "not-implemented",
    routes.hasService(service)
      ? `unknown method ${method} for service ${service}`
      : `unknown service ${service}`,
  );
}

function openScope(
  headers: IncomingHttpHeaders,
  rawHeaders: readonly string[],
  logger: Logger,
): CallScope {
  const timeout = headers["grpc-timeout"];
  let timeoutMs: number | undefined;
  try {
    timeoutMs = timeout === undefined ? undefined : parseTimeoutMs(String(timeout));
  } catch (error) {
    if (error instanceof CodedError) throw new HttpRefusal(400, error);
    throw error;
  }
  // A client that names its namespace twice means the first: the one set last stands in front.
  return new CallScope(Context.background({ logger }), {
    namespace: firstOf(rawHeaders, NAMESPACE_HEADER),
    lease: firstOf(rawHeaders, LEASE_HEADER),
    timeoutMs,
  });
}

function firstOf(rawHeaders: readonly string[], name: string): string | undefined {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i] === name) return rawHeaders[i + 1];
  }
  return undefined;
}

/** Ends the scope with the stream, and the answer with the deadline, whatever the handler does. */
function watch(stream: ServerHttp2Stream, scope: CallScope, answer: Answer): void {
  const cancel = (): void => scope.cancel();
  stream.on("aborted", cancel);
  stream.on("close", cancel);
  const onEnd = (): void => answer.finish(statusOf(scope.error()));
  if (scope.ctx.signal.aborted) onEnd();
  else scope.ctx.signal.addEventListener("abort", onEnd, { once: true });
}

interface Parts {
  readonly answer: Answer;
  readonly route: Route;
  readonly scope: CallScope;
  readonly options: ServerCallOptions;
  readonly observed: ObservedCall | undefined;
}

async function runHandler(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { answer, route, scope, options, observed }: Parts,
): Promise<void> {
  const { method } = route;
  const handler = route.handler as (ctx: Context, input: unknown) => unknown; // -- as `serve` took it
  const { ctx } = scope;
  const reader = new MessageReader(stream, {
    bytesMax: options.receiveBytesMax,
    encoding: parseEncoding(headers["grpc-encoding"]),
  });
  const kind = method.methodKind;
  const input =
    kind === "unary" || kind === "server_streaming"
      ? await readOnly(method.input, reader, ctx)
      : messages(method.input, { reader, ctx, observed });
  if (kind === "unary" || kind === "server_streaming") observed?.received();
  ctx.throwIfEnded();
  const output = handler(ctx, input);
  if (kind === "unary" || kind === "client_streaming") {
    const response = (await output) as MessageInitShape<DescMessage>; // -- typed by `serve`
    void answer.send(encodeMessage(method.output, response), options.sendBytesMax);
    observed?.sent();
  } else {
    const responses = output as AsyncIterable<MessageInitShape<DescMessage>>; // -- typed by `serve`
    for await (const response of responses) {
      if (answer.isFinished) return;
      const sent = answer.send(encodeMessage(method.output, response), options.sendBytesMax);
      observed?.sent();
      await sent;
    }
  }
  answer.finish(OK);
}

function parseEncoding(value: string | string[] | undefined): "gzip" | undefined {
  if (value === undefined || value === "" || value === "identity") return undefined;
  if (value === "gzip") return "gzip";
  const text = `grpc: Decompressor is not installed for grpc-encoding ${JSON.stringify(value)}`;
  throw new CodedError("not-implemented", text);
}

async function readOnly<D extends DescMessage>(
  desc: D,
  reader: MessageReader,
  ctx: Context,
): Promise<MessageShape<D>> {
  const message = await reader.next();
  if (message === undefined) {
    ctx.throwIfEnded();
    throw new CodedError("internal", "no request message");
  }
  reader.discard();
  return parse(desc, message);
}

interface MessageSource {
  readonly reader: MessageReader;
  readonly ctx: Context;
  readonly observed: ObservedCall | undefined;
}

async function* messages<D extends DescMessage>(
  desc: D,
  { reader, ctx, observed }: MessageSource,
): AsyncGenerator<MessageShape<D>> {
  for (;;) {
    const message = await reader.next();
    if (message === undefined) {
      ctx.throwIfEnded();
      return;
    }
    observed?.received();
    yield parse(desc, message);
  }
}

function parse<D extends DescMessage>(desc: D, message: Uint8Array): MessageShape<D> {
  try {
    return decodeMessage(desc, message);
  } catch (cause) {
    const text = `grpc: error unmarshalling request: ${messageOf(cause)}`;
    throw new CodedError("internal", text, { cause });
  }
}
