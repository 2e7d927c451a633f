import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import { isIPv6 } from "node:net";

export interface RecordedRequest {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly target: string;
  readonly headers: IncomingMessage["headers"];
  /** `METHOD TARGET STATUS`; the status 0 where there was none. */
  readonly line: string;
}

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** All that was sent. */
  body(): Promise<Buffer>;
}

/** Answers a request. */
export type Answer = (exchange: Exchange) => void | Promise<void>;

export interface Rule {
  /** Held against `METHOD TARGET`. */
  readonly match: RegExp;
  /** And this, where it is given. */
  readonly when?: (request: IncomingMessage) => boolean;
  readonly answer: Answer;
  /** For how many requests; default: all. */
  readonly times?: number;
}

export interface FaultServer extends AsyncDisposable {
  /** `127.0.0.1:PORT`, or what it was given as address or name. */
  readonly host: string;
  readonly origin: string;
  readonly requests: readonly RecordedRequest[];
  /** `METHOD TARGET STATUS` of each so far. */
  lines(): readonly string[];
  /** The latest rule that matches answers, until it has done so often enough. */
  rule(rule: Rule): void;
  /** Connections accepted so far. */
  connections(): number;
}

/** A loopback server that does what its rules say, and otherwise what `fallback` does. */
export async function startFaultServer(
  fallback: Answer,
  {
    tls,
    address: at = "127.0.0.1",
    name = isIPv6(at) ? `[${at}]` : at,
  }: { tls?: ServerOptions; address?: string; name?: string } = {},
): Promise<FaultServer> {
  const requests: RecordedRequest[] = [];
  const rules: { rule: Rule; left: number }[] = [];
  let connections = 0;
  const answerTo = (line: string, request: IncomingMessage): Answer => {
    const found = rules.findLast(
      ({ rule, left }) => left > 0 && rule.match.test(line) && (rule.when?.(request) ?? true),
    );
    if (!found) return fallback;
    found.left -= 1;
    return found.rule.answer;
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    const { method = "", url: target = "", headers } = request;
    const recorded = { method, target, headers, line: `${method} ${target} 0` };
    requests.push(recorded);
    const note = (): void => {
      recorded.line = `${method} ${target} ${response.headersSent ? response.statusCode : 0}`;
    };
    response.once("close", note);
    response.once("finish", note);
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    const url = new URL(target, "http://server");
    const body = (): Promise<Buffer> => readAll(request);
    Promise.try(answerTo(`${method} ${target}`, request), { request, response, url, body }).catch(
      (error: unknown) => response.destroy(error instanceof Error ? error : undefined),
    );
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  server.on("connection", () => (connections += 1));
  server.on("tlsClientError", () => undefined);
  server.listen(0, at);
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const host = `${name}:${address.port}`;
  return {
    host,
    origin: `${tls ? "https" : "http"}://${host}`,
    requests,
    lines: () => requests.map(({ line }) => line),
    rule: (rule) => void rules.push({ rule, left: rule.times ?? Number.POSITIVE_INFINITY }),
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer); // -- no encoding is set
  return Buffer.concat(chunks);
}

/** A status with a body, nothing else. */
export function status(
  code: number,
  headers: Readonly<Record<string, string>> = {},
  body = "",
): Answer {
  return ({ request, response }) => {
    request.resume();
    response.writeHead(code, headers);
    response.end(request.method === "HEAD" ? undefined : body);
  };
}

export function redirect(to: string, code = 307): Answer {
  return status(code, { location: to });
}

/** The connection ends without an answer. */
export const hangUp: Answer = ({ request }) => void request.socket.destroy();

/** Takes the request and never says anything. */
export const silence: Answer = ({ request }) => void request.resume();
