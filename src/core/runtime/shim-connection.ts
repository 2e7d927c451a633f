import { once } from "node:events";
import { connect } from "node:net";
import type { DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, messageOf, unavailable, wrap } from "#pkg/errors.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Transport } from "#pkg/rpc/service.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";

/** A transport that knows when its one connection is gone. */
export interface ShimTransport extends Transport {
  /** Resolves when the connection is gone, by whichever side. */
  readonly closed: Promise<void>;
  readonly isOpen: boolean;
}

/** Connects to a serving shim; replaced by tests. */
export type ShimDialer = (ctx: Context, bootstrap: BootstrapResult) => Promise<ShimTransport>;

/**
 * Throws `unavailable` when nobody serves there, `invalid-argument` for an address or protocol that
 * is none, and `not-implemented` for one this daemon does not speak.
 */
export const dialShim: ShimDialer = async (ctx, { address, protocol }) => {
  switch (protocol.toLowerCase()) {
    case "ttrpc":
      try {
        return await TtrpcTransport.connect(ctx, unixPath(address));
      } catch (error) {
        throw wrap("failed to create TTRPC connection", error);
      }
    case "grpc":
      return GrpcShimTransport.connect(ctx, unixPath(address));
    default:
      throw new CodedError("unknown", `unexpected protocol: ${JSON.stringify(protocol)}`);
  }
};

/**
 * gRPC over one connection: a shim whose connection is lost is lost, even if it would take another.
 */
class GrpcShimTransport implements ShimTransport {
  readonly closed: Promise<void>;
  readonly #transport: GrpcTransport;
  #isOpen = true;

  private constructor(path: string) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#transport = new GrpcTransport(
      { path },
      {
        onDisconnect: () => {
          this.#isOpen = false;
          resolve();
        },
      },
    );
  }

  /** The transport itself connects at the first call; that somebody listens is seen before. */
  static async connect(ctx: Context, path: string): Promise<GrpcShimTransport> {
    const probe = connect(path);
    try {
      await once(probe, "connect", { signal: ctx.signal });
    } catch (cause) {
      ctx.throwIfEnded();
      throw unavailable(`failed to create GRPC connection: ${messageOf(cause)}`, { cause });
    } finally {
      probe.destroy();
    }
    return new GrpcShimTransport(path);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  async unary<M extends DescMethod>(
    ctx: Context,
    method: M,
    request: MessageInitShape<M["input"]>,
  ): Promise<MessageShape<M["output"]>> {
    this.#assertOpen();
    return this.#transport.unary(ctx, method, request);
  }

  stream<M extends DescMethod>(
    ctx: Context,
    method: M,
    requests: AsyncIterable<MessageInitShape<M["input"]>>,
  ): AsyncIterable<MessageShape<M["output"]>> {
    this.#assertOpen();
    return this.#transport.stream(ctx, method, requests);
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#transport.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #assertOpen(): void {
    if (!this.#isOpen) throw unavailable("grpc: the shim's connection is closed");
  }
}

/** Upstream's old shims print an abstract socket's name without a scheme. */
function unixPath(address: string): string {
  const scheme = /^([a-z0-9]+):\/\/(.*)$/.exec(address);
  if (!scheme) return `\0${address}`;
  const [, name, path] = scheme;
  if (name !== "unix" || path === undefined) {
    throw new CodedError("not-implemented", `unsupported protocol: ${name}`);
  }
  return path;
}
