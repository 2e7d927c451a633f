import { once } from "node:events";
import { createServer, type Server, Socket } from "node:net";

import type { Context } from "#pkg/context.ts";
import { failedPrecondition, unavailable, wrap } from "#pkg/errors.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import { pause } from "#pkg/sys/fifo.ts";
import type { Fd, ReceivedMessage, Syscalls } from "#pkg/sys/syscall.ts";

const pollMsMax = 20;
const waitingMax = 16;

type SocketMessages = Pick<Syscalls, "sendmsg" | "recvmsg">;

// libuv reads a socket with read(2), at which the kernel drops descriptors that came along; so it
// must never read here, and without it there is nobody to poll for us.
async function retried<T>(ctx: Context, call: () => T): Promise<T> {
  for (let delayMs = 1; ; delayMs = Math.min(2 * delayMs, pollMsMax)) {
    ctx.throwIfEnded();
    try {
      return call();
    } catch (error) {
      if (!isSyscallError(error, "EAGAIN", "EINTR")) throw error;
    }
    await pause(ctx, delayMs);
  }
}

/**
 * Sends all of `data`, the descriptors with its first byte. They stay open here. `data` must not be
 * empty.
 */
export async function sendFds(
  ctx: Context,
  sys: SocketMessages,
  socket: Fd,
  message: { readonly data: Buffer; readonly fds: readonly Fd[] },
): Promise<void> {
  let { data, fds } = message;
  do {
    const sent = await retried(ctx, () => sys.sendmsg(socket, data, fds));
    data = data.subarray(sent);
    fds = [];
  } while (data.length > 0);
}

/**
 * The next message, with the descriptors that came along; empty data means that the other side has
 * closed.
 */
export async function receiveFds(
  ctx: Context,
  sys: SocketMessages,
  socket: Fd,
  room: { readonly bytesMax: number; readonly fdsMax: number },
): Promise<ReceivedMessage> {
  return await retried(ctx, () => sys.recvmsg(socket, room));
}

/** A unix stream socket that only carries messages with descriptors. */
export class FdConnection implements Disposable {
  readonly #socket: Socket;
  // Looks the number up for every try: after a close it may belong to something else.
  readonly #checked: SocketMessages;

  constructor(sys: SocketMessages, socket: Socket) {
    this.#socket = socket;
    this.#checked = {
      sendmsg: (_socket, data, fds) => sys.sendmsg(this.#fd(), data, fds),
      recvmsg: (_socket, room) => sys.recvmsg(this.#fd(), room),
    };
    // Without a listener an error of the handle would end the process; calls meet the same error
    // themselves.
    socket.on("error", () => {});
  }

  static async connect(ctx: Context, sys: SocketMessages, path: string): Promise<FdConnection> {
    const socket = new Socket();
    // A socket that is paused before it connects is never read.
    socket.pause();
    try {
      socket.connect(path);
      await once(socket, "connect", { signal: ctx.signal });
    } catch (error) {
      socket.destroy();
      ctx.throwIfEnded();
      throw error;
    }
    return new FdConnection(sys, socket);
  }

  /** As `sendFds`. */
  send(ctx: Context, data: Buffer, fds: readonly Fd[]): Promise<void> {
    return sendFds(ctx, this.#checked, -1, { data, fds });
  }

  /** As `receiveFds`. */
  receive(ctx: Context, room: { bytesMax: number; fdsMax: number }): Promise<ReceivedMessage> {
    return receiveFds(ctx, this.#checked, -1, room);
  }

  /** At once or not at all: false when the other side has not read enough yet. */
  trySend(data: Buffer, fds: readonly Fd[]): boolean {
    try {
      this.#checked.sendmsg(-1, data, fds);
      return true;
    } catch (error) {
      if (isSyscallError(error, "EAGAIN")) return false;
      throw error;
    }
  }

  /**
   * From now on read by the event loop, which loses descriptors: for what comes after them.
   * `onClose` is called once, whichever side closes.
   */
  listen(on: { readonly onData: (chunk: Buffer) => void; readonly onClose: () => void }): void {
    this.#socket.on("data", on.onData);
    this.#socket.once("close", on.onClose);
    this.#socket.once("end", () => this.close());
    this.#socket.resume();
  }

  close(): void {
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #fd(): Fd {
    const handle: unknown = "_handle" in this.#socket ? this.#socket._handle : undefined;
    if (typeof handle === "object" && handle !== null && "fd" in handle) {
      if (typeof handle.fd === "number" && handle.fd >= 0) return handle.fd;
    }
    throw failedPrecondition("connection is closed");
  }
}

/**
 * Listens on a path for connections that carry descriptors: a runtime's console socket, a
 * hand-over.
 *
 * Connections nobody accepts wait, sixteen at most; more are closed. `close` closes those too and
 * removes the path; connections handed out are their owners'.
 */
export class FdListener implements Disposable {
  readonly #sys: SocketMessages;
  readonly #server: Server;
  readonly #waiting: Socket[] = [];
  #changed = Promise.withResolvers<void>();
  #failure: Error | undefined;

  private constructor(sys: SocketMessages, server: Server) {
    this.#sys = sys;
    this.#server = server;
    server.on("connection", (socket) => {
      if (this.#waiting.length >= waitingMax) socket.destroy();
      else this.#waiting.push(socket);
      this.#change();
    });
  }

  static async listen(sys: SocketMessages, path: string): Promise<FdListener> {
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
    const listener = new FdListener(sys, server);
    server.listen(path);
    await once(server, "listening");
    server.on("error", (error) => listener.#fail(error));
    return listener;
  }

  async accept(ctx: Context): Promise<FdConnection> {
    for (;;) {
      ctx.throwIfEnded();
      const socket = this.#waiting.shift();
      if (socket !== undefined) return new FdConnection(this.#sys, socket);
      if (this.#failure !== undefined) throw wrap("accept", this.#failure);
      await untilEnded(ctx, this.#changed.promise);
    }
  }

  close(): void {
    this.#fail(unavailable("listener is closed"));
    this.#server.close();
    for (const socket of this.#waiting.splice(0)) socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#change();
  }

  #change(): void {
    const changed = this.#changed;
    this.#changed = Promise.withResolvers<void>();
    changed.resolve();
  }
}

async function untilEnded(ctx: Context, promise: Promise<void>): Promise<void> {
  const ended = Promise.withResolvers<void>();
  const end = (): void => ended.resolve();
  ctx.signal.addEventListener("abort", end, { once: true });
  try {
    await Promise.race([promise, ended.promise]);
  } finally {
    ctx.signal.removeEventListener("abort", end);
  }
}
