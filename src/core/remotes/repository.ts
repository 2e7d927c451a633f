import type { HeaderFields, RequestBody } from "#core/remotes/http-client.ts";
import { joinHeaders } from "#core/remotes/http-client.ts";
import { userAgent } from "#core/remotes/hosts.ts";
import type { HostAnswer } from "#core/remotes/redirects.ts";
import {
  hasCapabilities,
  type HostCapability,
  isProxyFor,
  type RegistryHost,
  type RegistryHosts,
} from "#core/remotes/registry-host.ts";
import { perform, type PerformOptions } from "#core/remotes/registry-request.ts";
import type { Context } from "#pkg/context.ts";
import { notFound } from "#pkg/errors.ts";
import type { Reference } from "#pkg/reference.ts";

export interface RepositoryRequest {
  readonly method: string;
  /** Below the repository: `["manifests", "latest"]`. An empty last one ends the path in `/`. */
  readonly path: readonly string[];
  readonly query?: readonly (readonly [string, string])[] | undefined;
  readonly headers?: HeaderFields | undefined;
  readonly body?: RequestBody | undefined;
  readonly scopes: readonly string[];
}

export interface UrlRequest extends Omit<RepositoryRequest, "path" | "query"> {
  readonly url: URL;
  /** Somebody else's server. */
  readonly isForeign?: boolean | undefined;
}

/** A repository as its hosts have it: what every request to a registry goes through. */
export class Repository {
  readonly reference: Reference;
  readonly #hosts: readonly RegistryHost[];
  readonly #headers: HeaderFields;

  constructor(reference: Reference, hosts: readonly RegistryHost[], headers: HeaderFields) {
    this.reference = reference;
    this.#hosts = hosts;
    this.#headers = "user-agent" in headers ? headers : joinHeaders(headers, userAgent);
  }

  static async open(
    ctx: Context,
    reference: Reference,
    given: { readonly hosts: RegistryHosts; readonly headers: HeaderFields },
  ): Promise<Repository> {
    return new Repository(reference, await given.hosts(ctx, reference.hostname), given.headers);
  }

  /** Throws `not-found` where no host may do it. */
  hosts(what: string, capabilities: readonly HostCapability[]): readonly RegistryHost[] {
    const able = this.#hosts.filter((host) => hasCapabilities(host, capabilities));
    if (able.length > 0) return able;
    throw notFound(`no ${what} hosts for ${this.reference.hostname}`);
  }

  /** Those that may, possibly none. */
  hostsFor(capability: HostCapability): readonly RegistryHost[] {
    return this.#hosts.filter((host) => hasCapabilities(host, [capability]));
  }

  url(host: RegistryHost, path: readonly string[], query: RepositoryRequest["query"] = []): URL {
    const parts = [host.path, this.reference.repository, ...path].flatMap((part, i) =>
      i < 2 ? part.split("/").filter((one) => one !== "") : [part],
    );
    const url = new URL(`${host.scheme}://${host.host}`);
    url.pathname = `/${parts.map(encodePart).join("/")}`;
    for (const [name, value] of query) url.searchParams.append(name, value);
    const { hostname } = this.reference;
    if (isProxyFor(host, hostname)) url.searchParams.append("ns", hostname);
    return url;
  }

  async ask(
    ctx: Context,
    host: RegistryHost,
    request: RepositoryRequest,
    options: PerformOptions,
  ): Promise<HostAnswer> {
    const url = this.url(host, request.path, request.query);
    return this.askUrl(ctx, host, { ...request, url }, options);
  }

  /** For places that the host named itself: uploads, next pages. */
  async askUrl(
    ctx: Context,
    host: RegistryHost,
    request: UrlRequest,
    options: PerformOptions,
  ): Promise<HostAnswer> {
    const own = request.isForeign === true ? withoutSecrets(this.#headers) : this.#headers;
    const headers = joinHeaders(own, request.headers ?? {});
    const { method, url, body, scopes } = request;
    return perform(ctx, host, { method, url, headers, body, scopes }, options);
  }
}

const secretFields: readonly string[] = [
  "authorization",
  "cookie",
  "cookie2",
  "proxy-authorization",
];

function withoutSecrets(headers: HeaderFields): HeaderFields {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !secretFields.includes(name)),
  );
}

/** Digests and tags keep their colons: registries compare paths as they are written. */
function encodePart(part: string): string {
  return encodeURIComponent(part).replaceAll("%3A", ":").replaceAll("%2B", "+");
}

export function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

export function pushScope(repository: string): string {
  return `repository:${repository}:pull,push`;
}
