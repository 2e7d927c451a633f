import { type CredentialSource, noCredentials } from "#core/remotes/credentials.ts";
import { type HostsOptions, type PlannedHost, planHosts } from "#core/remotes/hosts.ts";
import type { ProxyFor } from "#core/remotes/proxy-environment.ts";
import { isProxyFor } from "#core/remotes/registry-host.ts";
import type { Context } from "#pkg/context.ts";
import { messageOf } from "#pkg/errors.ts";
import { parseReference } from "#pkg/reference.ts";

/** One host that would be asked for a reference, and why. Nothing in it is secret. */
export interface ExplainedHost {
  /** The root of its API: `https://mirror.local:5000/v2`. */
  readonly url: string;
  readonly capabilities: readonly string[];
  /** Whether it would be asked what this reference stands for, or passed over. */
  readonly resolves: boolean;
  readonly tls: string;
  /** Where its credentials are from; undefined: it is asked anonymously. */
  readonly credentials: string | undefined;
  /** Names of the header fields that it is sent. */
  readonly headers: readonly string[];
  readonly proxy: string | undefined;
  /** The file that says so, and what follows from it. */
  readonly why: readonly string[];
}

/** The hosts that would be asked for a reference, in this order. Asks nobody. */
export async function explainHosts(
  ctx: Context,
  ref: string,
  options: HostsOptions & { readonly proxyFor?: ProxyFor | undefined },
): Promise<readonly ExplainedHost[]> {
  const { hostname, digest } = parseReference(ref);
  const planned = await planHosts(ctx, hostname, options);
  const credentials = options.credentials ?? noCredentials;
  return Promise.all(
    planned.map((host) => explain(ctx, host, { ...options, hostname, digest, credentials })),
  );
}

async function explain(
  ctx: Context,
  host: PlannedHost,
  given: {
    hostname: string;
    digest: string | undefined;
    credentials: CredentialSource;
    proxyFor?: ProxyFor | undefined;
  },
): Promise<ExplainedHost> {
  const { hostname, digest, credentials, proxyFor } = given;
  const needed = digest === undefined ? (["pull", "resolve"] as const) : (["pull"] as const);
  const resolves = needed.every((capability) => host.capabilities.includes(capability));
  const url = new URL(`${host.scheme}://${host.host}`);
  const why = [host.why];
  let proxy: URL | undefined;
  try {
    proxy = proxyFor?.(url);
  } catch (error) {
    why.push(`cannot be asked: ${messageOf(error)}`);
  }
  if (isProxyFor(host, hostname)) why.push(`stands in for ${hostname}: asked with ns=${hostname}`);
  if (!resolves) why.push("may not resolve a tag: asked only for content of a known digest");
  if (host.fallsBack) why.push("whether it has TLS is not known: https first, then http");
  return {
    url: `${host.scheme}://${host.host}${host.path}`,
    capabilities: host.capabilities,
    resolves,
    tls: explainTls(host),
    credentials: await credentials.describe(ctx, host.host),
    headers: Object.keys(host.headers),
    proxy: proxy && `${proxy.protocol}//${proxy.host}`,
    why,
  };
}

function explainTls({ scheme, tls }: PlannedHost): string {
  if (scheme === "http") return "none";
  const parts = [tls.skipVerify ? "not verified" : "verified"];
  if (!tls.skipVerify) parts.push(["the system's authorities", ...tls.caFiles].join(", "));
  if (tls.clientPairs.length > 0) {
    parts.push(`client certificates ${tls.clientPairs.map(({ cert }) => cert).join(", ")}`);
  }
  return parts.join("; ");
}
