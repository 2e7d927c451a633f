import { resolve } from "node:path";
import { type Config, defaults, serverPlugins } from "#cmd/containerd/config/config.ts";

/** The flags of the daemon itself; empty and undefined both mean not given. */
export interface Flags {
  readonly config: string;
  /** Whether `config` was asked for, rather than being where it usually is. */
  readonly configGiven: boolean;
  readonly logLevel?: string | undefined;
  readonly address?: string | undefined;
  readonly root?: string | undefined;
  readonly state?: string | undefined;
}

/** Flags win over files. An address takes the ttrpc one with it, unless a file gave that. */
export function applyFlags(config: Config, flags: Flags): Config {
  const { root, state, address } = flags;
  return {
    ...config,
    ...(root && { root: resolve(root) }),
    ...(state && { state: resolve(state) }),
    ...(address && { plugins: withAddress(config.plugins, address) }),
    debug: { ...config.debug, level: flags.logLevel || config.debug.level },
  };
}

function withAddress(plugins: Config["plugins"], address: string): Config["plugins"] {
  const { uid, gid }: { uid?: unknown; gid?: unknown } = plugins[serverPlugins.grpc] ?? {};
  const grpc = { ...plugins[serverPlugins.grpc], address };
  const ttrpc = plugins[serverPlugins.ttrpc] ?? {
    address: `${address}.ttrpc`,
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
  };
  return { ...plugins, [serverPlugins.grpc]: grpc, [serverPlugins.ttrpc]: ttrpc };
}

/** Where the daemon will listen, for those who have to be told before it does. */
export function addressesOf(config: Config): { grpc: string; ttrpc: string } {
  const address = (uri: string): string => {
    const found = config.plugins[uri]?.["address"];
    return typeof found === "string" ? found : "";
  };
  return {
    grpc: address(serverPlugins.grpc) || defaults.address,
    ttrpc: address(serverPlugins.ttrpc) || `${defaults.address}.ttrpc`,
  };
}
