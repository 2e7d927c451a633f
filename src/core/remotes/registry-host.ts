import type { Authorizer } from "#core/remotes/authorizer.ts";
import type { HeaderFields, HttpClient } from "#core/remotes/http-client.ts";
import type { Context } from "#pkg/context.ts";

/**
 * What a host may be asked for: content by digest, what a name stands for, to take content in,
 * what refers to something. A mirror that nobody vouches for must not resolve.
 */
export type HostCapability = "pull" | "resolve" | "push" | "referrers";

export const allCapabilities: readonly HostCapability[] = ["pull", "resolve", "push", "referrers"];

/** One server that is asked for the content of a registry: the registry itself or a mirror. */
export interface RegistryHost {
  readonly scheme: "https" | "http";
  /** With its port, where it has one: `mirror.local:5000`. */
  readonly host: string;
  /** The root of its API: `/v2`, or whatever a mirror has. */
  readonly path: string;
  readonly capabilities: readonly HostCapability[];
  /** Sent to this host and to no other. */
  readonly headers: HeaderFields;
  readonly client: HttpClient;
  /** The same without client certificates, for the places that it redirects to. */
  readonly foreignClient: HttpClient;
  readonly authorizer: Authorizer;
}

/** The hosts of a registry, by the host of its references, in the order that they are asked in. */
export type RegistryHosts = (ctx: Context, namespace: string) => Promise<readonly RegistryHost[]>;

export function hasCapabilities(
  host: Pick<RegistryHost, "capabilities">,
  wanted: readonly HostCapability[],
): boolean {
  return wanted.every((capability) => host.capabilities.includes(capability));
}

/** Whether the host stands in for another: then it has to be told for which one (`?ns=`). */
export function isProxyFor(host: Pick<RegistryHost, "host">, namespace: string): boolean {
  if (namespace === host.host) return false;
  return namespace !== "docker.io" || host.host !== "registry-1.docker.io";
}
