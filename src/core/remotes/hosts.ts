import { isAbsolute } from "node:path";
import { createAuthorizer } from "#core/remotes/authorizer.ts";
import { type CriRegistry, isConfigured, planCriHosts } from "#core/remotes/cri-registry.ts";
import { type CredentialSource, noCredentials } from "#core/remotes/credentials.ts";
import { loadHostDirectory } from "#core/remotes/hosts-directory.ts";
import type { HostConfig } from "#core/remotes/hosts-file.ts";
import type { HeaderFields, HttpClient } from "#core/remotes/http-client.ts";
import { withHttpFallback } from "#core/remotes/http-fallback.ts";
import { isLocalhost, splitHostPort } from "#core/remotes/localhost.ts";
import {
  allCapabilities,
  type HostCapability,
  type RegistryHost,
  type RegistryHosts,
} from "#core/remotes/registry-host.ts";
import { defaultTls, type TlsSettings } from "#core/remotes/tls-settings.ts";
import type { ClientSource } from "#core/remotes/transports.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { product } from "#pkg/version.ts";

export interface HostsOptions {
  /** Directories of host configuration, the first that knows a host decides. */
  readonly roots?: readonly string[] | undefined;
  readonly credentials?: CredentialSource | undefined;
  /** Instead of directories: what CRI was configured by before there were any. */
  readonly cri?: CriRegistry | undefined;
  /** For registries that are not configured: `http` or `https`. */
  readonly defaultScheme?: "http" | "https" | undefined;
  /** TLS for hosts that say nothing of it themselves. */
  readonly defaultTls?: TlsSettings | undefined;
}

/** A host as it will be asked, before anything has been opened for it. */
export interface PlannedHost {
  readonly scheme: "https" | "http";
  readonly host: string;
  readonly path: string;
  readonly capabilities: readonly HostCapability[];
  readonly headers: HeaderFields;
  readonly tls: TlsSettings;
  readonly dialTimeoutMs: number | undefined;
  /** Asked by https first, and by http when it has no TLS. */
  readonly fallsBack: boolean;
  /** What decided about it, for people. */
  readonly why: string;
}

export const userAgent: HeaderFields = {
  "user-agent": [`containerd/${product.version.replace(/^v/, "")}`],
};

/** A host and what it was opened from: as long as that is the same, so are the tokens it has. */
interface Opened {
  readonly client: HttpClient;
  readonly host: Promise<RegistryHost>;
}

const openedMax = 100;

/**
 * The hosts of registries by files, read again by every call, or by upstream's defaults where there
 * are none: the registry itself over TLS; this machine also without.
 */
export function configuredHosts(transports: ClientSource, options: HostsOptions): RegistryHosts {
  const opened = new Map<string, Opened>();
  const credentials = options.credentials ?? noCredentials;
  const open = async (planned: PlannedHost): Promise<RegistryHost> => {
    const key = JSON.stringify(planned);
    const client = await transports.client(planned);
    const known = opened.get(key);
    if (known?.client === client) return known.host;
    const host = openHost(transports, credentials, planned);
    if (opened.size >= openedMax) opened.clear();
    opened.set(key, { client, host });
    return host;
  };
  return async (ctx, namespace) => {
    const planned = await planHosts(ctx, namespace, options);
    return Promise.all(planned.map(open));
  };
}

/** What `configuredHosts` would ask, in this order. */
export async function planHosts(
  ctx: Context,
  namespace: string,
  options: HostsOptions,
): Promise<readonly PlannedHost[]> {
  if (namespace === "") throw invalidArgument("registry host must not be empty");
  if (options.cri && isConfigured(options.cri)) return planCriHosts(namespace, options.cri);
  const found = await loadHostDirectory(options.roots ?? [], namespace);
  if (!found) return [planHost(namespace, undefined, "no configuration: defaults", options)];
  const { directory, from, hosts, unknownKeys } = found;
  for (const key of unknownKeys) {
    ctx.logger.warn("ignoring unknown key of hosts.toml", { directory, key });
  }
  const why = from === "hosts.toml" ? `${directory}/hosts.toml` : `certificates of ${directory}`;
  return hosts.map((host) => planHost(namespace, host, why, options));
}

/** The roots where one directory is named for a single use. Throws `invalid-argument` where it is not absolute. */
export function rootsOf(hostDir: string): readonly string[] {
  if (isAbsolute(hostDir)) return [hostDir];
  throw invalidArgument(`host_dir ${JSON.stringify(hostDir)} is not absolute`);
}

function planHost(
  namespace: string,
  config: HostConfig | undefined,
  why: string,
  options: HostsOptions,
): PlannedHost {
  const server = config?.server;
  const { isLocal, ...rest } = server
    ? { ...server, capabilities: config.capabilities, isLocal: false, why }
    : { ...defaultServer(namespace, options), capabilities: allCapabilities, why };
  const tlsOfHost = config?.caFiles ?? config?.clientPairs ?? config?.skipVerify;
  const hasTls = tlsOfHost !== undefined || options.defaultTls !== undefined || isLocal;
  const given = options.defaultTls ?? defaultTls;
  // On this machine nobody stands between, unless whoever configured an authority wants it held.
  const skipVerify = config?.skipVerify ?? (isLocal && !config?.caFiles ? true : given.skipVerify);
  assertHost(rest);
  const { port } = splitHostPort(rest.host);
  const fallsBack = rest.scheme === "http" && hasTls && port !== "80";
  return {
    ...rest,
    scheme: fallsBack ? "https" : rest.scheme,
    headers: config?.headers ?? {},
    tls: {
      caFiles: [...given.caFiles, ...(config?.caFiles ?? [])],
      clientPairs: [...given.clientPairs, ...(config?.clientPairs ?? [])],
      skipVerify,
    },
    dialTimeoutMs: config?.dialTimeoutMs,
    fallsBack,
  };
}

/** A reference may name what is none: a port above all ports, five numbers with dots. */
function assertHost({ scheme, host }: { readonly scheme: string; readonly host: string }): void {
  if (URL.canParse(`${scheme}://${host}`)) return;
  throw invalidArgument(`registry host ${JSON.stringify(host)} is no host`);
}

/** `isLocal`: it is this machine, of which nothing is known: TLS is tried and not verified. */
function defaultServer(
  namespace: string,
  { defaultScheme }: HostsOptions,
): { scheme: "https" | "http"; host: string; path: string; isLocal: boolean } {
  const path = "/v2";
  if (namespace === "docker.io") {
    return { scheme: "https", host: "registry-1.docker.io", path, isLocal: false };
  }
  if (!isLocalhost(namespace) || defaultScheme !== undefined) {
    return { scheme: defaultScheme ?? "https", host: namespace, path, isLocal: false };
  }
  const { port } = splitHostPort(namespace);
  const scheme = port === "" || port === "443" ? "https" : "http";
  return { scheme, host: namespace, path, isLocal: port !== "80" };
}

/** Opens nothing yet: connections are made by the first request. Throws `invalid-argument` for what is no host. */
export async function openHost(
  transports: ClientSource,
  credentials: CredentialSource,
  planned: PlannedHost,
): Promise<RegistryHost> {
  const { scheme, host, path, capabilities, headers, tls, dialTimeoutMs, fallsBack } = planned;
  assertHost(planned);
  const direct = await transports.client({ tls, dialTimeoutMs });
  const client = fallsBack ? withHttpFallback(direct) : direct;
  const foreignClient =
    tls.clientPairs.length === 0
      ? direct
      : await transports.client({ tls: { ...tls, clientPairs: [] }, dialTimeoutMs });
  const schemes = fallsBack ? ["https", "http"] : [scheme];
  const authorizer = createAuthorizer({
    host,
    origins: schemes.map((one) => new URL(`${one}://${host}`).origin),
    credentials,
    client,
    tokenClient: direct,
    foreignClient,
    headers,
    userAgent,
  });
  return { scheme, host, path, capabilities, headers, client, foreignClient, authorizer };
}
