import type { HttpClient } from "#core/remotes/http-client.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";

/**
 * A server that a manifest names and nobody configured: it gets no credentials, and whatever it
 * answers a request without them with, none are looked for.
 */
export function externalHost(url: URL, client: HttpClient): RegistryHost {
  return {
    scheme: url.protocol === "http:" ? "http" : "https",
    host: url.host,
    path: "",
    capabilities: ["pull"],
    headers: {},
    client,
    foreignClient: client,
    authorizer: {
      authorization: () => Promise.resolve(undefined),
      learn: () => Promise.resolve(false),
    },
  };
}

/** Scheme, name and port are those of the host; where these are left out, the scheme's. */
export function isOriginOf(url: URL, host: Pick<RegistryHost, "scheme" | "host">): boolean {
  const origin = `${host.scheme}://${host.host}`;
  return URL.canParse(origin) && new URL(origin).origin === url.origin;
}
