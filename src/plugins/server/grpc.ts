import type { Context } from "#pkg/context.ts";
import { wrap } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import type { CallObserver } from "#pkg/rpc/call-observer.ts";
import type { Service } from "#pkg/rpc/service.ts";
import type { Server } from "#plugins/server/server.ts";
import { assertUnserved, makeSocketDir, socketMode } from "#plugins/server/socket.ts";

/** For calls under way when the daemon stops; what waits for a container would wait for ever. */
export const closeTimeoutMs = 1000;

export interface GrpcListenerOptions {
  readonly address: string;
  readonly uid: number;
  readonly gid: number;
  /** Zero leaves the server's own bounds. */
  readonly receiveBytesMax: number;
  readonly sendBytesMax: number;
  readonly services: readonly Service[];
  readonly observer?: CallObserver | undefined;
  readonly logger: Logger;
}

/** The daemon's main socket. */
export class GrpcListener implements Server {
  readonly #server: GrpcServer;
  readonly #options: GrpcListenerOptions;

  constructor(options: GrpcListenerOptions) {
    const { services, observer, logger, receiveBytesMax, sendBytesMax } = options;
    this.#options = options;
    this.#server = new GrpcServer({
      services,
      observer,
      logger,
      ...(receiveBytesMax > 0 && { receiveBytesMax }),
      ...(sendBytesMax > 0 && { sendBytesMax }),
    });
  }

  async start(ctx: Context): Promise<void> {
    const { address, uid, gid } = this.#options;
    ctx.logger.info("starting GRPC server", { address, uid, gid });
    try {
      await makeSocketDir(address, uid, gid);
      await assertUnserved(address);
      await this.#server.listen(address, { mode: socketMode, uid, gid });
    } catch (error) {
      throw wrap("failed to get listener for main endpoint", error);
    }
    ctx.logger.info("serving...", { address });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.close({ timeoutMs: closeTimeoutMs });
  }
}
