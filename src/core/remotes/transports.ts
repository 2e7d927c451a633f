import { isIPv6 } from "node:net";
import type { Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Agent, Dispatcher } from "undici";
import {
  type ConnectionTrace,
  dial,
  type DialOptions,
  proxyAuthorization,
} from "#core/remotes/dial.ts";
import type { HttpClient, HttpRequest, HttpResponse } from "#core/remotes/http-client.ts";
import { noProxy, type ProxyFor } from "#core/remotes/proxy-environment.ts";
import { loadTls, readSystemAuthorities, type TlsSettings } from "#core/remotes/tls-settings.ts";
import { bodyError, transportError } from "#core/remotes/transport-error.ts";
import type { Context } from "#pkg/context.ts";
import { unavailable } from "#pkg/errors.ts";
import { freeBytes, giveBytes } from "#pkg/owned-bytes.ts";

export interface TransportTimeouts {
  /** Until there is a connection, unless the host says otherwise. */
  readonly dialMs: number;
  readonly handshakeMs: number;
  /** From the end of the request to the first byte of the answer. */
  readonly responseHeaderMs: number;
  /** Between two pieces of a body that is being read: what is longer is a stall. */
  readonly bodyIdleMs: number;
}

export const defaultTimeouts: TransportTimeouts = {
  dialMs: 30_000,
  handshakeMs: 10_000,
  responseHeaderMs: 30_000,
  bodyIdleMs: 30_000,
};

export interface TransportsOptions {
  readonly proxyFor?: ProxyFor | undefined;
  /** Instead of the system's certificates: what SSL_CERT_FILE names. */
  readonly systemCaFile?: string | undefined;
  readonly timeouts?: Partial<TransportTimeouts> | undefined;
}

export interface ClientSettings {
  readonly tls: TlsSettings;
  readonly dialTimeoutMs?: number | undefined;
  /** Has connections of its own: what others have made is not seen. */
  readonly trace?: ConnectionTrace | undefined;
}

/** Hands out the process's connections. */
export interface ClientSource {
  /**
   * The same object for the same settings and contents of their files. Throws `failed-precondition`
   * when a file cannot be read.
   */
  client(settings: ClientSettings): Promise<HttpClient>;
}

interface Entry {
  readonly client: HttpClient;
  readonly agents: Promise<Agents>;
}

type Settings = Pick<DialOptions, "tls" | "dialTimeoutMs" | "trace">;

interface Agents {
  /** Straight to the server, or through a tunnel of its proxy. */
  readonly agent: Agent;
  /** To proxies, for requests that they pass on. */
  readonly forward: Agent;
}

const entriesMax = 64;
const connectionsPerOriginMax = 64;
const discardTimeoutMs = 1_000;
/** Enough that a reader that keeps up is not held up by the pauses of flow control. */
const bodyBufferBytes = 512 << 10;
/** Pieces of a body are put together to so many bytes, as far as none is waited for. */
const pieceBytes = 256 << 10;

/**
 * Connections to registries, kept open and shared by whoever talks to the same host with the same
 * settings. One for a process; dispose ends them all.
 */
export class Transports implements ClientSource, AsyncDisposable {
  readonly #proxyFor: ProxyFor;
  readonly #timeouts: TransportTimeouts;
  readonly #systemCaFile: string | undefined;
  /** The least recently used first. */
  readonly #entries = new Map<string, Entry>();
  #isDisposed = false;
  #systemAuthorities: Promise<readonly string[]> | undefined;

  constructor(options: TransportsOptions = {}) {
    this.#proxyFor = options.proxyFor ?? noProxy;
    this.#timeouts = { ...defaultTimeouts, ...options.timeouts };
    this.#systemCaFile = options.systemCaFile;
  }

  async client(settings: ClientSettings): Promise<HttpClient> {
    const tls = await loadTls(settings.tls, () => this.#authorities());
    const dialTimeoutMs = settings.dialTimeoutMs ?? this.#timeouts.dialMs;
    const { trace } = settings;
    const key = `${tls.fingerprint} ${dialTimeoutMs} ${trace?.id}`;
    return this.#entry(key, { tls, dialTimeoutMs, trace }).client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const { agents } of entries) {
      const { agent, forward } = await agents;
      await Promise.all([agent.destroy(), forward.destroy()]);
    }
  }

  #authorities(): Promise<readonly string[]> {
    this.#systemAuthorities ??= readSystemAuthorities(this.#systemCaFile);
    return this.#systemAuthorities;
  }

  /** Whose connections were closed to make room, though somebody has the client still, has new ones. */
  #entry(key: string, given: Settings, client = this.#clientOf(key, given)): Entry {
    if (this.#isDisposed) throw unavailable("connections to registries are closed");
    const known = this.#entries.get(key);
    this.#entries.delete(key);
    const entry = known ?? { client, agents: this.#open(given) };
    this.#entries.set(key, entry);
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > entriesMax && oldest !== undefined) {
      const evicted = this.#entries.get(oldest);
      this.#entries.delete(oldest);
      // Graceful: requests under way on it end as they would have.
      void evicted?.agents.then(({ agent, forward }) => {
        return Promise.all([agent.close(), forward.close()]);
      });
    }
    return entry;
  }

  #clientOf(key: string, given: Settings): HttpClient {
    const client: HttpClient = {
      send: (ctx, request) => {
        return this.#send(ctx, () => this.#entry(key, given, client).agents, request);
      },
    };
    return client;
  }

  async #open(given: Settings): Promise<Agents> {
    const undici = await import("undici");
    const { handshakeMs: handshakeTimeoutMs, responseHeaderMs, bodyIdleMs } = this.#timeouts;
    const options = { ...given, handshakeTimeoutMs };
    const agent = (throughProxy: boolean): Agent =>
      new undici.Agent({
        connections: connectionsPerOriginMax,
        pipelining: 1,
        keepAliveTimeout: 30_000,
        headersTimeout: responseHeaderMs,
        bodyTimeout: bodyIdleMs,
        connect: ({ protocol, hostname: bare, port }, callback) => {
          const number = Number(port || (protocol === "https:" ? 443 : 80));
          // undici takes the brackets off; a URL and a CONNECT need them.
          const hostname = isIPv6(bare) ? `[${bare}]` : bare;
          const target = { protocol, hostname, port: number };
          const url = new URL(`${protocol}//${hostname}:${number}`);
          Promise.try(() =>
            dial(target, throughProxy ? this.#proxyFor(url) : undefined, options),
          ).then(
            (socket) => callback(null, socket),
            (error: Error) => callback(error, null),
          );
        },
      });
    return { agent: agent(true), forward: agent(false) };
  }

  async #send(
    ctx: Context,
    open: () => Promise<Agents>,
    request: HttpRequest,
  ): Promise<HttpResponse> {
    ctx.throwIfEnded();
    const { method, url } = request;
    const proxy = this.#proxyFor(url);
    const isForwarded = proxy !== undefined && url.protocol === "http:";
    const body = request.body && (await bodyOf(request.body.open()));
    const { agent, forward } = await open();
    try {
      const response = await (isForwarded ? forward : agent).request({
        origin: isForwarded ? proxy.origin : url.origin,
        path: isForwarded ? `${url.origin}${url.pathname}${url.search}` : url.pathname + url.search,
        method,
        headers: {
          ...headersOf(request),
          ...(isForwarded && { host: url.host, ...proxyAuthorization(proxy) }),
        },
        signal: ctx.signal,
        highWaterMark: bodyBufferBytes,
        ...(body !== undefined && { body }),
      });
      return new UndiciResponse(ctx, url, response);
    } catch (error) {
      ctx.throwIfEnded();
      throw transportError(error, { method, url, proxy });
    }
  }
}

function headersOf({ headers, body }: HttpRequest): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = {};
  for (const [name, values] of Object.entries(headers)) fields[name] = [...values];
  if (body !== undefined) fields["content-length"] = String(body.sizeBytes);
  return fields;
}

async function bodyOf(
  body: Uint8Array | AsyncIterable<Uint8Array>,
): Promise<Uint8Array | Readable> {
  if (body instanceof Uint8Array) return body;
  const { Readable } = await import("node:stream");
  return Readable.from(body, { objectMode: false, highWaterMark: 256 << 10 });
}

class UndiciResponse implements HttpResponse {
  readonly url: URL;
  readonly status: number;
  readonly body: AsyncIterable<Uint8Array>;
  readonly bulk: AsyncIterable<Uint8Array>;
  readonly #response: Dispatcher.ResponseData;

  constructor(ctx: Context, url: URL, response: Dispatcher.ResponseData) {
    this.url = url;
    this.status = response.statusCode;
    this.body = chunksOf(ctx, url, response.body);
    this.bulk = chunksOf(ctx, url, inBulk(response.body));
    this.#response = response;
  }

  header(name: string): string | undefined {
    const lines = this.headerLines(name);
    return lines.length === 0 ? undefined : lines.join(", ");
  }

  headerNames(): readonly string[] {
    return Object.keys(this.#response.headers);
  }

  headerLines(name: string): readonly string[] {
    const value = this.#response.headers[name];
    if (value === undefined) return [];
    return typeof value === "string" ? [value] : value;
  }

  async discard(): Promise<void> {
    const { body } = this.#response;
    if (body.destroyed || body.readableEnded) return;
    // What little is left is read, so that the connection can be used again.
    const signal = AbortSignal.timeout(discardTimeoutMs);
    body.on("error", () => undefined);
    await body.dump({ limit: 64 << 10, signal }).catch(() => body.destroy());
  }
}

/**
 * Pieces with what came right behind them, given to the caller: Node reads into memory of its own each time. What is
 * done for each piece costs as much as the bytes of a small one, and a fast connection brings the next before that is
 * done.
 */
async function* inBulk(body: Readable): AsyncIterable<Buffer> {
  for await (const first of body as AsyncIterable<Buffer>) yield await withMore(first, body);
}

async function withMore(first: Buffer, body: Readable): Promise<Buffer> {
  const pieces = [first];
  let length = first.length;
  while (length < pieceBytes) {
    await nextTurn();
    const more = body.read() as Buffer | null; // -- no encoding is set
    if (more === null) break;
    pieces.push(more);
    length += more.length;
  }
  if (pieces.length === 1) return giveBytes(first);
  const whole = giveBytes(Buffer.concat(pieces, length));
  for (const piece of pieces) freeBytes(giveBytes(piece));
  return whole;
}

async function* chunksOf(
  ctx: Context,
  url: URL,
  body: AsyncIterable<Uint8Array>,
): AsyncIterable<Uint8Array> {
  try {
    for await (const chunk of body) yield chunk;
  } catch (error) {
    ctx.throwIfEnded();
    throw bodyError(error, url);
  }
}
