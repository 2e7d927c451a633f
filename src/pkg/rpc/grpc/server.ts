import { once } from "node:events";
import {
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type Logger, silentLogger } from "#pkg/log.ts";
import { Routes } from "#pkg/rpc/routes.ts";
import type { CallObserver } from "#pkg/rpc/call-observer.ts";
import type { Service } from "#pkg/rpc/service.ts";
import { listenUnix, type UnixSocketOptions } from "#pkg/rpc/unix-socket.ts";
import { admit, turnAway } from "./authority-gate.ts";
import { MESSAGE_BYTES_MAX } from "./message-reader.ts";
import { type ServerCallOptions, serveCall } from "./server-call.ts";

const CLOSE_TIMEOUT_MS = 10_000;
const CONNECTION_WINDOW_BYTES = 16 << 20;

export interface GrpcServerOptions {
  readonly services?: Iterable<Service>;
  readonly logger?: Logger;
  /** `max_recv_message_size` of the configuration. */
  readonly receiveBytesMax?: number;
  /** `max_send_message_size` of the configuration. */
  readonly sendBytesMax?: number;
  readonly observer?: CallObserver | undefined;
}

/**
 * Serves services over gRPC on any number of listening sockets.
 *
 * A handler's context ends when the client cancels, its deadline passes or its connection is gone; the client has its
 * answer then, whatever the handler still does. An error without a code goes to the log with its chain of causes; the
 * client sees its message.
 */
export class GrpcServer implements AsyncDisposable {
  readonly #http2: Http2Server;
  readonly #options: ServerCallOptions;
  readonly #listeners = new AsyncDisposableStack();
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #sockets = new Set<Duplex>();
  /** Connections without a request yet. */
  readonly #waiting = new Set<Socket>();
  readonly #running = new Set<Promise<void>>();
  #closed: Promise<void> | undefined;

  constructor(options: GrpcServerOptions = {}) {
    this.#options = {
      routes: new Routes(options.services),
      logger: options.logger ?? silentLogger,
      receiveBytesMax: options.receiveBytesMax ?? MESSAGE_BYTES_MAX,
      sendBytesMax: options.sendBytesMax ?? MESSAGE_BYTES_MAX,
      observer: options.observer,
    };
    this.#http2 = createHttp2Server(http2Options);
    this.#http2.on("session", (session) => this.#onSession(session));
  }

  /** Throws when a service of that name is there already. */
  add(service: Service): void {
    this.#options.routes.add(service);
  }

  /** Listens at a path, which is replaced when it is there, and removed on close. */
  async listen(path: string, options: UnixSocketOptions): Promise<void> {
    const server = this.#createListener((socket) => this.#admit(socket));
    const file = await listenUnix(server, path, options);
    this.#listeners.defer(() => stop(server));
    this.#listeners.use(file);
  }

  /** Takes over a socket that already listens. Its file stays where it is. */
  async listenFd(fd: number): Promise<void> {
    const server = this.#createListener((socket) => this.#admit(socket));
    server.listen({ fd });
    await once(server, "listening");
    this.#listeners.defer(() => stop(server));
  }

  /** Listens on TCP, in the clear; port 0 takes a free one, which is given back. */
  async listenTcp({ host, port }: { host: string; port: number }): Promise<{ port: number }> {
    const server = this.#createListener((socket) => this.serve(socket));
    server.listen({ host, port });
    await once(server, "listening");
    this.#listeners.defer(() => stop(server));
    const address = server.address();
    return { port: typeof address === "object" && address !== null ? address.port : port };
  }

  /** Serves one connection that somebody else accepted: a TLS socket, say. */
  serve(socket: Duplex): void {
    if (this.#closed) {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    this.#http2.emit("connection", socket);
  }

  /**
   * Stops accepting, tells clients to go away, lets running calls finish.
   *
   * What still runs after `timeoutMs` is cut off, and its handler no longer waited for. Do not wait for it inside a
   * handler: it waits for that handler.
   */
  close({ timeoutMs = CLOSE_TIMEOUT_MS }: { timeoutMs?: number } = {}): Promise<void> {
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(timeoutMs: number): Promise<void> {
    const { promise: late, resolve: giveUp } = Promise.withResolvers<void>();
    const cutOff = setTimeout(() => {
      for (const session of this.#sessions) session.destroy();
      for (const socket of [...this.#sockets, ...this.#waiting]) socket.destroy();
      giveUp();
    }, timeoutMs);
    for (const socket of this.#waiting) turnAway(socket);
    for (const session of this.#sessions) session.close();
    try {
      await this.#listeners.disposeAsync();
      // No connection is left: no call can come any more.
      await Promise.race([Promise.all(this.#running), late]);
    } finally {
      clearTimeout(cutOff);
    }
  }

  /** Only who dials a path sends one as its authority. */
  #admit(socket: Socket): void {
    if (this.#closed) {
      socket.destroy();
      return;
    }
    this.#waiting.add(socket);
    const forget = (): void => {
      this.#waiting.delete(socket);
    };
    socket.on("close", forget);
    admit(socket, (connection) => {
      forget();
      socket.off("close", forget);
      this.serve(connection);
    });
  }

  #createListener(onConnection: (socket: Socket) => void): Server {
    const server = createServer(onConnection);
    server.on("error", (error) => {
      this.#options.logger.error("grpc: listener failed", { error });
    });
    return server;
  }

  #onSession(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.on("stream", (stream, headers, _flags, rawHeaders) => {
      this.#onStream(stream, headers, rawHeaders);
    });
    session.on("close", () => this.#sessions.delete(session));
    session.on("error", (error) => {
      this.#options.logger.debug("grpc: connection failed", { error });
    });
    if (!session.destroyed) session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  }

  #onStream(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    rawHeaders: readonly string[],
  ): void {
    const call = serveCall(stream, headers, rawHeaders, this.#options).finally(() => {
      this.#running.delete(call);
    });
    this.#running.add(call);
  }
}

/**
 * Node's defaults suit browsers from the internet. Clients here are trusted with the machine: cancels by the thousand
 * are ordinary and must not end in GOAWAY, and messages of 16 MiB must fit.
 */
const http2Options = {
  maxSessionMemory: 2048, // MB
  maxSessionInvalidFrames: 1_000_000,
  maxSessionRejectedStreams: 1_000_000,
  streamResetBurst: 1_000_000,
  streamResetRate: 1_000_000,
  maxHeaderListPairs: 1000,
  maxSendHeaderBlockLength: 1 << 20,
  settings: {
    maxConcurrentStreams: 1 << 16,
    initialWindowSize: 1 << 20,
    maxHeaderListSize: 256 << 10,
  },
} as const;

/** Resolves when the listener and every connection it accepted are gone. */
async function stop(server: Server): Promise<void> {
  server.close();
  await once(server, "close");
}
