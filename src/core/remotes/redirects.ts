import type { HeaderFields, HttpResponse, RequestBody } from "#core/remotes/http-client.ts";
import { joinHeaders } from "#core/remotes/http-client.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import { sanitizeUrl } from "#core/remotes/sanitize-url.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";

export interface HostRequest {
  readonly method: string;
  readonly url: URL;
  /** Besides those that the host is always sent. */
  readonly headers: HeaderFields;
  readonly body?: RequestBody | undefined;
  /** What a token has to be good for. */
  readonly scopes: readonly string[];
}

export interface HostAnswer {
  readonly response: HttpResponse;
  /** Of the last request: a redirect may turn another method into GET. */
  readonly method: string;
  /** A redirect led from https to http: nothing secret goes there, whatever it asks for. */
  readonly isPlainer?: boolean;
}

const redirectsMax = 10;
/** What a request is about, which another host has to know too. The rest is the registry's own. */
const portable: readonly string[] = ["accept", "accept-encoding", "range", "user-agent"];

/**
 * Sends a request to a host and goes after redirects, at most 10.
 *
 * Whoever else the way leads to, another name, port or scheme, is told what is asked for and nothing
 * more: no credentials, no configured headers, no client certificate, no body. From https to http goes no token
 * either.
 */
export async function sendToHost(
  ctx: Context,
  host: RegistryHost,
  request: HostRequest,
): Promise<HostAnswer> {
  let { method, url, body } = request;
  let headers = joinHeaders(host.headers, request.headers);
  let isOwn = true;
  let isPlainer = false;
  for (let redirects = 0; ; redirects++) {
    const authorization = isPlainer
      ? undefined
      : await host.authorizer.authorization(ctx, url, request.scopes);
    const client = isOwn ? host.client : host.foreignClient;
    ctx.logger.debug("do request", { method, url: sanitizeUrl(url) });
    const response = await client.send(ctx, {
      method,
      url,
      headers: authorization === undefined ? headers : withAuthorization(headers, authorization),
      body,
    });
    const location = response.header("location");
    const isRedirect = [301, 302, 303, 307, 308].includes(response.status);
    ctx.logger.debug("response received", { status: response.status, url: sanitizeUrl(url) });
    if (!isRedirect || location === undefined) return { response, method, isPlainer };
    await response.discard();
    if (redirects === redirectsMax) {
      throw new CodedError(
        "unavailable",
        `${sanitizeUrl(request.url)}: stopped after 10 redirects`,
      );
    }
    const next = parseLocation(location, response.url);
    if (response.url.protocol === "https:" && next.protocol === "http:") isPlainer = true;
    if (next.origin !== response.url.origin) {
      isOwn = false;
      headers = portableHeaders(headers);
      assertBodyStays(body, response.status, next);
    }
    if (!["GET", "HEAD"].includes(method) && response.status < 307) {
      method = "GET";
      body = undefined;
    }
    url = next;
  }
}

/** Those that another host may have. */
export function portableHeaders(headers: HeaderFields): HeaderFields {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => portable.includes(name)));
}

/** One that was configured gives way to one that was asked for. */
function withAuthorization(headers: HeaderFields, authorization: string): HeaderFields {
  return { ...headers, authorization: [authorization] };
}

function parseLocation(location: string, base: URL): URL {
  const url = URL.canParse(location, base) ? new URL(location, base) : undefined;
  if (url && /^https?:$/.test(url.protocol)) {
    url.username = "";
    url.password = "";
    return url;
  }
  throw new CodedError("unavailable", `${sanitizeUrl(base)} redirects to no usable address`);
}

function assertBodyStays(body: RequestBody | undefined, status: number, next: URL): void {
  if (body === undefined || status < 307) return;
  throw new CodedError(
    "unavailable",
    `upload was redirected to ${next.origin}, which is not followed`,
  );
}
