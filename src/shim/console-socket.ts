import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CodedError, isErrno } from "#pkg/errors.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";

const receiveTimeoutMs = 30_000;

/**
 * The socket on which a runtime hands over the master side of a new terminal.
 *
 * Disposing removes the socket; a master that was received belongs to the receiver.
 */
export class ConsoleSocket implements AsyncDisposable {
  readonly path: string;
  readonly #sys: Syscalls;
  readonly #server: Server;
  readonly #directory: string;
  readonly #connection: Promise<Socket>;

  private constructor(sys: Syscalls, server: Server, directory: string, path: string) {
    this.path = path;
    this.#sys = sys;
    this.#server = server;
    this.#directory = directory;
    const { promise, resolve } = Promise.withResolvers<Socket>();
    this.#connection = promise;
    server.once("connection", (socket: Socket) => {
      // The runtime closes its side as soon as it has sent; that is no error of ours.
      socket.on("error", () => {});
      resolve(socket);
    });
  }

  static async open(sys: Syscalls): Promise<ConsoleSocket> {
    // Not in the bundle, whose path may be longer than a socket's may be.
    const directory = await mkdtemp(join(tmpdir(), "pty"));
    const path = join(directory, "pty.sock");
    const server = createServer({ pauseOnConnect: true });
    try {
      server.listen(path);
      await once(server, "listening");
      await chmod(path, 0o700);
    } catch (error) {
      server.close();
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
    return new ConsoleSocket(sys, server, directory, path);
  }

  /**
   * The terminal's master, close-on-exec. Throws `deadline-exceeded` when none comes within 30 s.
   */
  async receiveMaster(): Promise<number> {
    const timeout = AbortSignal.timeout(receiveTimeoutMs);
    const { promise: late, reject } = Promise.withResolvers<never>();
    const onTimeout = (): void => reject(new CodedError("deadline-exceeded", "no console came"));
    timeout.addEventListener("abort", onTimeout, { once: true });
    try {
      const socket = await Promise.race([this.#connection, late]);
      try {
        return await this.#receive(descriptorOf(socket), timeout);
      } finally {
        socket.destroy();
      }
    } finally {
      timeout.removeEventListener("abort", onTimeout);
    }
  }

  async #receive(socketFd: number, timeout: AbortSignal): Promise<number> {
    while (!timeout.aborted) {
      try {
        const { data, fds } = this.#sys.recvmsg(socketFd, { bytesMax: 4096, fdsMax: 1 });
        const [master] = fds;
        if (master !== undefined) return master;
        if (data.length === 0) throw new CodedError("unknown", "the runtime sent no console");
      } catch (error) {
        if (!isErrno(error, "EAGAIN")) throw error;
        await sleep(2);
      }
    }
    throw new CodedError("deadline-exceeded", "no console came");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function descriptorOf(socket: Socket): number {
  // -- Node has no public way to the descriptor of an accepted socket
  const fd = (socket as unknown as { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd !== "number" || fd < 0) {
    throw new CodedError("internal", "an accepted socket has no descriptor");
  }
  return fd;
}
