import { type BootstrapResult, newestShimVersion } from "#core/runtime/bootstrap.ts";
import type { ShimTransport } from "#core/runtime/shim-connection.ts";
import type { ShimLink } from "#core/runtime/shim-link.ts";
import { TaskProxy } from "#core/runtime/task-proxy.ts";
import type { Context } from "#pkg/context.ts";

/** The link to a third-party shim: one connection for this bundle, over once it is lost. */
export class BinaryLink implements ShimLink {
  readonly bootstrap: BootstrapResult;
  readonly rollsBack: boolean;
  /** Resolves when the connection is lost, and never after `close`. */
  readonly lost: Promise<void>;

  readonly #id: string;
  readonly #transport: ShimTransport;
  #tasks: TaskProxy;
  #isClosed = false;

  /**
   * Takes the transport over. Throws for a version of the task service this daemon does not speak.
   */
  constructor(
    id: string,
    bootstrap: BootstrapResult,
    transport: ShimTransport,
    { rollsBack = false }: { readonly rollsBack?: boolean } = {},
  ) {
    this.#id = id;
    this.bootstrap = bootstrap;
    this.rollsBack = rollsBack;
    this.#transport = transport;
    this.#tasks = new TaskProxy(transport, bootstrap.version);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.lost = promise;
    void transport.closed.then(() => {
      if (!this.#isClosed) resolve();
    });
  }

  call<T>(_ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T> {
    return made(this.#tasks);
  }

  ask<T>(ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T> {
    return this.call(ctx, made);
  }

  get services(): ShimTransport {
    return this.#transport;
  }

  get isLost(): boolean {
    return !this.#transport.isOpen;
  }

  downgrade(): boolean {
    if (this.#tasks.version < newestShimVersion) return false;
    this.#tasks = new TaskProxy(this.#transport, this.#tasks.version - 1);
    return true;
  }

  async shutdown(ctx: Context): Promise<void> {
    try {
      await this.#tasks.shutdown(ctx, this.#id);
    } catch (error) {
      // Its end may overtake the answer.
      if (this.#transport.isOpen) throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#transport.close();
  }
}
