import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { type Logger, silentLogger } from "#pkg/log.ts";
import { Routes } from "#pkg/rpc/routes.ts";
import type { Service } from "#pkg/rpc/service.ts";
import { listenUnix, type UnixSocketOptions } from "#pkg/rpc/unix-socket.ts";
import { ServerConnection } from "./server-connection.ts";

const CALLS_PER_CONNECTION_MAX = 10_000;
const CLOSE_TIMEOUT_MS = 10_000;

export interface TtrpcServerOptions {
  readonly services?: Iterable<Service>;
  readonly logger?: Logger;
  /** Calls one connection may have running; more are answered `resource-exhausted`. */
  readonly callsPerConnectionMax?: number;
}

/**
 * Serves services over ttrpc on any number of listening sockets.
 *
 * A handler's context ends with its connection. An error without a code goes to the log with its chain of causes;
 * the client sees its message.
 */
export class TtrpcServer implements AsyncDisposable {
  readonly #routes: Routes;
  readonly #logger: Logger;
  readonly #callsMax: number;
  readonly #connections = new Set<ServerConnection>();
  readonly #listeners = new AsyncDisposableStack();
  #closed: Promise<void> | undefined;

  constructor(options: TtrpcServerOptions = {}) {
    this.#routes = new Routes(options.services);
    this.#logger = options.logger ?? silentLogger;
    this.#callsMax = options.callsPerConnectionMax ?? CALLS_PER_CONNECTION_MAX;
  }

  /** Throws when a service of that name is there already. */
  add(service: Service): void {
    this.#routes.add(service);
  }

  /** Listens at a path, which is replaced when it is there, and removed on close. */
  async listen(path: string, options: UnixSocketOptions): Promise<void> {
    const server = this.#createListener();
    const file = await listenUnix(server, path, options);
    this.#listeners.defer(() => stop(server));
    this.#listeners.use(file);
  }

  /** Takes over a socket that already listens. Its file stays where it is. */
  async listenFd(fd: number): Promise<void> {
    const server = this.#createListener();
    server.listen({ fd });
    await once(server, "listening");
    this.#listeners.defer(() => stop(server));
  }

  /** Serves one connection that somebody else accepted. */
  serve(socket: Socket): void {
    if (this.#closed) {
      socket.destroy();
      return;
    }
    const connection = new ServerConnection(socket, {
      routes: this.#routes,
      logger: this.#logger,
      callsMax: this.#callsMax,
      onClose: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
  }

  /**
   * Stops accepting, lets running calls finish, ends the connections.
   *
   * What still runs after `timeoutMs` is cut off. Do not wait for it inside a handler: it waits for that handler.
   */
  close({ timeoutMs = CLOSE_TIMEOUT_MS }: { timeoutMs?: number } = {}): Promise<void> {
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(timeoutMs: number): Promise<void> {
    const cutOff = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, timeoutMs);
    for (const connection of this.#connections) connection.close();
    try {
      await this.#listeners.disposeAsync();
    } finally {
      clearTimeout(cutOff);
    }
  }

  #createListener(): Server {
    const server = createServer((socket) => this.serve(socket));
    server.on("error", (error) => this.#logger.error("ttrpc: listener failed", { error }));
    return server;
  }
}

/** Resolves when the listener and every connection it accepted are gone. */
async function stop(server: Server): Promise<void> {
  server.close();
  await once(server, "close");
}
