import { once } from "node:events";
import type { ClientRequest } from "node:http";
import { connect, isIP, isIPv6, type Socket } from "node:net";
import { connect as connectTls, type SecureContext, type TLSSocket } from "node:tls";
import type { TlsMaterial } from "#core/remotes/tls-settings.ts";
import type { LogFields } from "#pkg/log.ts";

/** Where dialling failed: what to say about it differs. */
export type DialStage = "dial" | "tls" | "proxy";

/** Not a `CodedError`: it passes through undici, and `transport-error.ts` puts words to it. */
export class DialError extends Error {
  readonly stage: DialStage;
  /** A system's or OpenSSL's name of the failure, `ETIMEDOUT` for ours. */
  readonly code: string;

  constructor(stage: DialStage, code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.stage = stage;
    this.code = code;
  }
}

export interface DialOptions {
  readonly tls: TlsMaterial;
  readonly dialTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
  readonly trace?: ConnectionTrace | undefined;
}

/** Told of names that are looked up and connections that are made, in upstream's words. */
export interface ConnectionTrace {
  readonly id: string;
  tell(event: string, fields: LogFields): void;
}

export interface Target {
  readonly protocol: string;
  /** As URLs have it: an IPv6 address in brackets. */
  readonly hostname: string;
  readonly port: number;
}

/** A connection to the target, over a proxy's tunnel where one is given. Throws `DialError`. */
export async function dial(
  target: Target,
  proxy: URL | undefined,
  options: DialOptions,
): Promise<Socket> {
  // Before there is a socket: one that waits has nobody who hears its errors.
  const context = target.protocol === "https:" ? await options.tls.context() : undefined;
  const socket = await (proxy === undefined
    ? dialTcp(target, options)
    : dialThrough(proxy, target, options.dialTimeoutMs));
  const { remoteAddress = "", remotePort } = socket;
  const address = isIPv6(remoteAddress) ? `[${remoteAddress}]` : remoteAddress;
  const remote = { reused: false, remote_addr: `${address}:${remotePort}` };
  options.trace?.tell("Connection successful", remote);
  return context ? handshake(socket, context, target, options) : socket;
}

async function dialTcp(
  { hostname, port }: Target,
  { dialTimeoutMs: timeoutMs, trace }: DialOptions,
): Promise<Socket> {
  const host = hostname.replace(/^\[|\]$/g, "");
  const socket = connect({ host, port, autoSelectFamily: true, noDelay: true });
  socket.setKeepAlive(true, 30_000);
  if (trace && isIP(host) === 0) traceLookup(socket, host, trace);
  return established(socket, "connect", {
    stage: "dial",
    what: `dial tcp ${hostname}:${port}`,
    timeoutMs,
  });
}

function traceLookup(socket: Socket, host: string, trace: ConnectionTrace): void {
  trace.tell("DNS lookup", { host });
  socket.on("lookup", (error: Error | null, result: string) => {
    if (error) trace.tell("DNS lookup error", { lookup_err: error });
    else trace.tell("DNS lookup complete", { result });
  });
}

async function handshake(
  socket: Socket,
  secureContext: SecureContext,
  target: Target,
  { tls, handshakeTimeoutMs }: DialOptions,
): Promise<TLSSocket> {
  const host = target.hostname.replace(/^\[|\]$/g, "");
  try {
    const secure = connectTls({
      socket,
      host,
      // Addresses are no names (RFC 6066, 3); the certificate is still held against `host`.
      servername: isIP(host) === 0 ? host : "",
      secureContext,
      rejectUnauthorized: !tls.skipVerify,
      ALPNProtocols: ["http/1.1"],
    });
    return await established(secure, "secureConnect", {
      stage: "tls",
      what: "TLS handshake",
      timeoutMs: handshakeTimeoutMs,
    });
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

interface Step {
  readonly stage: DialStage;
  readonly what: string;
  readonly timeoutMs: number;
}

async function established<S extends Socket>(
  socket: S,
  event: "connect" | "secureConnect",
  { stage, what, timeoutMs }: Step,
): Promise<S> {
  const late = (): void => {
    socket.destroy(new DialError(stage, "ETIMEDOUT", `${what}: i/o timeout`));
  };
  const timer = setTimeout(late, timeoutMs);
  const ended = new AbortController();
  // A peer that hangs up inside a handshake says so by `close` only.
  const closed = once(socket, "close", { signal: ended.signal }).then(() => {
    throw new DialError(stage, "ECONNRESET", `${what}: connection closed by the peer`);
  });
  try {
    await Promise.race([once(socket, event, { signal: ended.signal }), closed]);
    return socket;
  } catch (error) {
    socket.destroy();
    if (error instanceof DialError) throw error;
    throw new DialError(stage, codeOf(error), what, error);
  } finally {
    clearTimeout(timer);
    closed.catch(() => undefined);
    ended.abort();
  }
}

function codeOf(error: unknown): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  return first instanceof Error && "code" in first ? String(first.code) : "";
}

/** `CONNECT host:port`: what the proxy then sends through is not its business. */
async function dialThrough(proxy: URL, target: Target, timeoutMs: number): Promise<Socket> {
  const path = `${target.hostname}:${target.port}`;
  // Not imported: to look at this module's exports loads all of `fetch`, which the daemon's start would wait for.
  const http = process.getBuiltinModule(proxy.protocol === "https:" ? "node:https" : "node:http");
  const send = http.request;
  const request = send({
    host: proxy.hostname.replace(/^\[|\]$/g, ""),
    port: Number(proxy.port || (proxy.protocol === "https:" ? 443 : 80)),
    method: "CONNECT",
    path,
    headers: { host: path, ...proxyAuthorization(proxy) },
    agent: false,
    signal: AbortSignal.timeout(timeoutMs),
  });
  request.end();
  try {
    const [response, socket] = await tunnel(request);
    const status = response.statusCode ?? 0;
    if (status === 200) return socket;
    socket.destroy();
    const text = `${status} ${response.statusMessage ?? ""}`.trim();
    throw new DialError("proxy", `HTTP_${status}`, `CONNECT ${path}: ${text}`);
  } catch (error) {
    request.destroy();
    if (error instanceof DialError) throw error;
    const timedOut = error instanceof Error && error.name === "AbortError";
    throw new DialError("proxy", timedOut ? "ETIMEDOUT" : codeOf(error), `CONNECT ${path}`, error);
  }
}

async function tunnel(
  request: ClientRequest,
): Promise<[{ statusCode?: number | undefined; statusMessage?: string | undefined }, Socket]> {
  const { promise, resolve, reject } =
    Promise.withResolvers<
      [{ statusCode?: number | undefined; statusMessage?: string | undefined }, Socket]
    >();
  request.once("connect", (response, socket: Socket) => resolve([response, socket]));
  request.once("response", (response) => {
    const { statusCode = 0 } = response;
    response.resume();
    reject(new DialError("proxy", `HTTP_${statusCode}`, `CONNECT: ${statusCode}`));
  });
  request.once("error", reject);
  return promise;
}

/** The header that a proxy wants when its URL has a user. */
export function proxyAuthorization(proxy: URL): Record<string, string> {
  if (proxy.username === "") return {};
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { "proxy-authorization": `Basic ${Buffer.from(user).toString("base64")}` };
}
