import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, wrap } from "#pkg/errors.ts";
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
 * Throws `unavailable` when nobody serves there, `invalid-argument` for an address or protocol that is none, and
 * `not-implemented` for one this daemon does not speak.
 */
export const dialShim: ShimDialer = async (ctx, { address, protocol }) => {
  switch (protocol.toLowerCase()) {
    case "ttrpc":
      try {
        return await TtrpcTransport.connect(ctx, unixPath(address));
      } catch (error) {
        throw wrap("failed to create TTRPC connection", error);
      }
    default:
      throw new CodedError("unknown", `unexpected protocol: ${JSON.stringify(protocol)}`);
  }
};

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
