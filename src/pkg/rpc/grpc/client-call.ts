import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
} from "node:http2";
import type { Context } from "#pkg/context.ts";
import { CodedError, type ErrorCode, messageOf } from "#pkg/errors.ts";
import { MessageReader } from "./message-reader.ts";
import { writeMessage } from "./message-writer.ts";
import { errorFromHeaders } from "./status-headers.ts";
import { formatTimeout } from "./timeout.ts";

export interface ClientCallOptions {
  readonly path: string;
  readonly authority: string;
  readonly receiveBytesMax: number;
  readonly sendBytesMax: number;
}

/** What a stream's end without a status means, by its reset code. */
const codeOfReset: Readonly<Record<number, ErrorCode>> = {
  [constants.NGHTTP2_REFUSED_STREAM]: "unavailable",
  [constants.NGHTTP2_CANCEL]: "canceled",
  [constants.NGHTTP2_ENHANCE_YOUR_CALM]: "resource-exhausted",
  [constants.NGHTTP2_INADEQUATE_SECURITY]: "permission-denied",
};

/** What an HTTP status other than 200 means when no gRPC status comes with it. */
const codeOfHttpStatus: Readonly<Record<number, ErrorCode>> = {
  400: "internal",
  401: "unauthenticated",
  403: "permission-denied",
  404: "not-implemented",
  429: "unavailable",
  502: "unavailable",
  503: "unavailable",
  504: "unavailable",
};

/** One call on one HTTP/2 stream, from the caller's side. */
export class ClientCall {
  readonly #ctx: Context;
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #options: ClientCallOptions;
  #reader: MessageReader | undefined;
  #headers: IncomingHttpHeaders | undefined;
  #trailers: IncomingHttpHeaders | undefined;
  #failure: Error | undefined;
  #sendFailure: CodedError | undefined;
  /** Resolves when the status has come or none can come any more. */
  readonly #settled: Promise<void>;

  /** Throws `canceled` or `deadline-exceeded` when the context has ended, `invalid-argument` for an odd namespace. */
  constructor(ctx: Context, session: ClientHttp2Session, options: ClientCallOptions) {
    ctx.throwIfEnded();
    this.#ctx = ctx;
    this.#session = session;
    this.#options = options;
    const stream = request(ctx, session, options);
    this.#stream = stream;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#settled = promise;
    stream.on("response", (headers) => {
      this.#headers = headers;
      if (headers["grpc-status"] !== undefined) resolve();
    });
    stream.on("trailers", (trailers) => {
      this.#trailers = trailers;
      resolve();
    });
    stream.on("error", (error) => {
      this.#failure = error;
    });
    const onAbort = (): void => this.cancel();
    ctx.signal.addEventListener("abort", onAbort, { once: true });
    stream.on("close", () => {
      ctx.signal.removeEventListener("abort", onAbort);
      resolve();
    });
    this.#reader = new MessageReader(stream, {
      bytesMax: options.receiveBytesMax,
      encoding: "gzip",
    });
  }

  /** The promise, if any, resolves when the server has made room for more. */
  send(message: Uint8Array): Promise<void> | undefined {
    return writeMessage(this.#stream, message, this.#options.sendBytesMax);
  }

  closeSend(): void {
    if (!this.#stream.destroyed && !this.#stream.closed) this.#stream.end();
  }

  /** Whether the call may still take what is sent. */
  get isOpen(): boolean {
    return !this.#stream.destroyed && !this.#stream.closed && this.#headersSaySuccess();
  }

  /** Ends the call with an error that arose on this side. */
  fail(error: CodedError): void {
    this.#sendFailure ??= error;
    this.cancel();
  }

  cancel(): void {
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  /** The next message; undefined when the server has ended the call with success. Throws its error. */
  async next(): Promise<Uint8Array | undefined> {
    const reader = this.#reader;
    if (!reader) return undefined;
    try {
      const message = await reader.next();
      if (message !== undefined) return message;
    } catch (error) {
      if (!this.#stream.destroyed) this.cancel();
      this.#reader = undefined;
      this.#throwOwn();
      throw error;
    }
    this.#reader = undefined;
    reader.discard();
    await this.#settled;
    this.#throwStatus();
    return undefined;
  }

  #headersSaySuccess(): boolean {
    return this.#headers?.["grpc-status"] === undefined;
  }

  #throwOwn(): void {
    if (this.#sendFailure) throw this.#sendFailure;
    this.#ctx.throwIfEnded();
  }

  #throwStatus(): void {
    const trailers = this.#trailers ?? this.#headers;
    if (trailers?.["grpc-status"] !== undefined) {
      const error = errorFromHeaders(trailers);
      if (error) throw error;
      return;
    }
    this.#throwOwn();
    const httpStatus = Number(this.#headers?.[":status"] ?? 200);
    if (httpStatus !== 200) {
      const code = codeOfHttpStatus[httpStatus] ?? "unknown";
      throw new CodedError(code, `unexpected HTTP status code received from server: ${httpStatus}`);
    }
    const cause = this.#failure;
    if (this.#session.destroyed || this.#session.closed) {
      const why = cause ? `: ${messageOf(cause)}` : "";
      throw new CodedError("unavailable", `connection lost${why}`, { cause });
    }
    const reset = this.#stream.rstCode;
    throw new CodedError(
      codeOfReset[reset] ?? "internal",
      `stream terminated by RST_STREAM with error code ${reset}`,
      { cause },
    );
  }
}

function request(
  ctx: Context,
  session: ClientHttp2Session,
  { path, authority }: ClientCallOptions,
): ClientHttp2Stream {
  const headers: Record<string, string> = {
    ":method": "POST",
    ":scheme": "http",
    ":authority": authority,
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    "user-agent": "containerd-ts",
    "grpc-accept-encoding": "gzip",
  };
  if (ctx.deadlineMs !== undefined) {
    headers["grpc-timeout"] = formatTimeout(ctx.deadlineMs - Date.now());
  }
  if (ctx.namespace !== undefined) headers["containerd-namespace"] = headerValue(ctx.namespace);
  if (ctx.lease !== undefined) headers["containerd-lease"] = headerValue(ctx.lease);
  try {
    return session.request(headers, { endStream: false });
  } catch (cause) {
    // The session may have been told to go away since it was chosen.
    throw new CodedError("unavailable", `connection lost: ${messageOf(cause)}`, { cause });
  }
}

function headerValue(text: string): string {
  if (/^[ -~]*$/.test(text)) return text;
  throw new CodedError("invalid-argument", `${JSON.stringify(text)} is not printable ASCII`);
}
