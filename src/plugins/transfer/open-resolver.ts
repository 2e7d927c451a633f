import { isAbsolute } from "node:path";
import { DownloadLimit } from "#core/remotes/download-limit.ts";
import type { Resolver } from "#core/remotes/remotes.ts";
import { RegistryResolver, type RegistryResolverOptions } from "#core/remotes/resolver.ts";
import type { Transports } from "#core/remotes/transports.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { invalidArgument } from "#pkg/errors.ts";

const defaultRoots = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];
/** A smaller buffer than this means none. */
const rangeBytesMin = 512;

export interface ResolverConfig {
  /** Directories of host configuration, with colons between; empty: the usual ones. */
  readonly configPath: string;
  readonly downloadsMax: number;
  readonly rangeBytes: number;
}

/** Makes resolvers for what clients name, all over the daemon's connections and within its limits. */
export function resolverOpener(
  transports: Transports,
  { configPath, downloadsMax, rangeBytes }: ResolverConfig,
): (registry: RegistryObject) => Resolver {
  const shared: RegistryResolverOptions = {
    transports,
    ...(downloadsMax > 0 && { downloadLimit: new DownloadLimit(downloadsMax) }),
    ...(rangeBytes >= rangeBytesMin && {
      parallel: { connections: Math.max(1, downloadsMax), chunkBytes: rangeBytes },
    }),
  };
  const configured = configPath === "" ? defaultRoots : configPath.split(":");
  return ({ hostDir, defaultScheme, headers, credentials }) => {
    if (hostDir !== "" && !isAbsolute(hostDir)) {
      throw invalidArgument(`host_dir ${JSON.stringify(hostDir)} is not absolute`);
    }
    const lists = Object.entries(headers).map(([name, value]): [string, string[]] => {
      return [name.toLowerCase(), [value]];
    });
    return new RegistryResolver({
      ...shared,
      roots: hostDir === "" ? configured : [hostDir],
      headers: Object.fromEntries(lists),
      defaultScheme: schemeOf(defaultScheme),
      credentials,
    });
  };
}

function schemeOf(text: string): "http" | "https" | undefined {
  if (text === "") return undefined;
  if (text === "http" || text === "https") return text;
  throw invalidArgument(`default_scheme ${JSON.stringify(text)} is neither http nor https`);
}
