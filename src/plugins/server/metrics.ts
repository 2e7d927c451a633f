import { once } from "node:events";
import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import type { MetricRegistry } from "#core/metrics/registry.ts";
import { textContentType } from "#core/metrics/text.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument, messageOf, wrap } from "#pkg/errors.ts";
import type { Server } from "#plugins/server/server.ts";

const path = "/v1/metrics";
const connectionsMax = 64;

/** `host:port`, `:port` on every address, `[::1]:port`. Throws `invalid-argument`. */
export function parseTcpAddress(address: string): { host: string | undefined; port: number } {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) {
    throw invalidArgument(`address ${JSON.stringify(address)} is not host:port`);
  }
  return { host: (match[1] ?? match[2]) || undefined, port };
}

/** Serves the daemon's metrics over HTTP, to anyone who reaches the address. */
export class MetricsListener implements Server {
  readonly #address: string;
  readonly #registry: MetricRegistry;
  #server: HttpServer | undefined;

  constructor(address: string, registry: MetricRegistry) {
    this.#address = address;
    this.#registry = registry;
  }

  async start(ctx: Context): Promise<void> {
    try {
      const { host, port } = parseTcpAddress(this.#address);
      const { createServer } = await import("node:http");
      const server = createServer((request, response) => void this.#answer(ctx, request, response));
      server.maxConnections = connectionsMax;
      server.listen({ port, ...(host !== undefined && { host }) });
      await once(server, "listening");
      server.on("error", (error) => ctx.logger.error("metrics server failed", { error }));
      this.#server = server;
    } catch (error) {
      throw wrap("failed to get listener for metrics endpoint", error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  /** Never rejects. */
  async #answer(ctx: Context, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [asked] = (request.url ?? "").split("?");
    if (asked !== path) {
      reply(response, { status: 404, type: plainText, body: "404 page not found\n" });
      return;
    }
    try {
      const body = await this.#registry.render(ctx);
      reply(response, { status: 200, type: textContentType, body });
    } catch (error) {
      ctx.logger.error("failed to tell metrics", { error });
      reply(response, { status: 500, type: plainText, body: `${messageOf(error)}\n` });
    }
  }
}

const plainText = "text/plain; charset=utf-8";

function reply(
  response: ServerResponse,
  { status, type, body }: { status: number; type: string; body: string },
): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(body);
}
