import { randomUUID } from "node:crypto";
import { firstOf } from "#core/remotes/credentials.ts";
import { Limit } from "#pkg/limit.ts";
import { parseHeaderTable } from "#core/remotes/header-table.ts";
import { rootsOf } from "#core/remotes/hosts.ts";
import { dumpingClients } from "#core/remotes/http-dump.ts";
import type { Resolver } from "#core/remotes/remotes.ts";
import { RegistryResolver, type RegistryResolverOptions } from "#core/remotes/resolver.ts";
import type { ClientSource } from "#core/remotes/transports.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { invalidArgument } from "#pkg/errors.ts";
import type { RegistryRules } from "#plugins/transfer/registry-rules.ts";

/** A smaller buffer than this means none. */
const rangeBytesMin = 512;

export interface ResolverConfig {
  readonly rules: RegistryRules;
  readonly downloadsMax: number;
  readonly rangeBytes: number;
}

/** Makes resolvers for what clients name, all over the daemon's connections and within its limits. */
export function resolverOpener(
  transports: ClientSource,
  { rules, downloadsMax, rangeBytes }: ResolverConfig,
): (registry: RegistryObject) => Resolver {
  const shared: Omit<RegistryResolverOptions, "transports"> = {
    ...(downloadsMax > 0 && { downloadLimit: new Limit(downloadsMax) }),
    ...(rangeBytes >= rangeBytesMin && {
      parallel: { connections: Math.max(1, downloadsMax), chunkBytes: rangeBytes },
    }),
  };
  return (registry) => {
    const { hostDir, defaultScheme, headers, credentials } = registry;
    return new RegistryResolver({
      ...shared,
      transports: observed(transports, registry),
      ...(hostDir === "" ? { roots: rules.roots, cri: rules.cri } : { roots: rootsOf(hostDir) }),
      headers: parseHeaderTable(headers, "headers"),
      defaultScheme: schemeOf(defaultScheme),
      credentials: firstOf([...(credentials ? [credentials] : []), rules.credentials]),
    });
  };
}

/** The same connections, with those watching that the client asked for. */
function observed(
  transports: ClientSource,
  { httpDump, connectionTrace: tell }: RegistryObject,
): ClientSource {
  const trace = tell && { id: randomUUID(), tell };
  const traced: ClientSource = trace
    ? { client: (settings) => transports.client({ ...settings, trace }) }
    : transports;
  return httpDump ? dumpingClients(traced, httpDump) : traced;
}

function schemeOf(text: string): "http" | "https" | undefined {
  if (text === "") return undefined;
  if (text === "http" || text === "https") return text;
  throw invalidArgument(`default_scheme ${JSON.stringify(text)} is neither http nor https`);
}
