import { createServer, type Socket } from "node:net";
import { once } from "node:events";
import type { Context } from "#pkg/context.ts";
import { wrap } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import type { Service } from "#pkg/rpc/service.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { listenUnix } from "#pkg/rpc/unix-socket.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { closeTimeoutMs } from "#plugins/server/grpc.ts";
import type { Server } from "#plugins/server/server.ts";
import { assertUnserved, makeSocketDir, socketMode } from "#plugins/server/socket.ts";

export interface TtrpcListenerOptions {
  readonly address: string;
  readonly uid: number;
  readonly gid: number;
  readonly services: readonly Service[];
  readonly logger: Logger;
  readonly sys: Pick<Syscalls, "getPeerUid">;
}

/**
 * Where shims publish their events.
 *
 * Only the daemon's own user is served, as upstream, also where the socket's group may connect: an
 * event is believed.
 */
export class TtrpcListener implements Server {
  readonly #server: TtrpcServer;
  readonly #options: TtrpcListenerOptions;
  readonly #stack = new AsyncDisposableStack();

  constructor(options: TtrpcListenerOptions) {
    this.#options = options;
    this.#server = new TtrpcServer({ services: options.services, logger: options.logger });
  }

  async start(ctx: Context): Promise<void> {
    const { address, uid, gid } = this.#options;
    const listener = createServer((socket) => this.#accept(socket));
    listener.on("error", (error) => ctx.logger.error("ttrpc: listener failed", { error }));
    try {
      await makeSocketDir(address, uid, gid);
      await assertUnserved(address);
      const file = await listenUnix(listener, address, { mode: socketMode, uid, gid });
      this.#stack.defer(async () => {
        listener.close();
        await Promise.all([
          this.#server.close({ timeoutMs: closeTimeoutMs }),
          once(listener, "close"),
        ]);
      });
      this.#stack.use(file);
    } catch (error) {
      throw wrap("failed to get listener for main ttrpc endpoint", error);
    }
    ctx.logger.info("serving...", { address });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #accept(socket: Socket): void {
    const fd = descriptorOf(socket);
    const uid = fd === undefined ? undefined : this.#options.sys.getPeerUid(fd);
    if (uid === process.geteuid?.()) {
      this.#server.serve(socket);
      return;
    }
    this.#options.logger.warn("ttrpc: refused a connection of another user", { uid });
    socket.destroy();
  }
}

/** Node has no name for the descriptor of a socket it accepted, other than this one. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as { _handle?: { fd?: unknown } }; // -- not in its types
  return typeof handle?.fd === "number" ? handle.fd : undefined;
}
