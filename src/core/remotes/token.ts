import * as v from "valibot";
import {
  type HeaderFields,
  type HttpClient,
  type HttpRequest,
  type HttpResponse,
  readBody,
} from "#core/remotes/http-client.ts";
import { portableHeaders } from "#core/remotes/redirects.ts";
import { unexpectedStatus } from "#core/remotes/unexpected-status.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";

/** https://distribution.github.io/distribution/spec/auth/token/ and oauth/ beside it. */
export interface TokenRequest {
  readonly realm: URL;
  readonly service: string;
  readonly scopes: readonly string[];
  /** Empty with a secret: the secret is an identity token. Both empty: anonymous. */
  readonly username: string;
  readonly secret: string;
  readonly headers: HeaderFields;
}

export interface TokenClients {
  /** For the realm. */
  readonly client: HttpClient;
  /** For whatever else it redirects to: without client certificates. */
  readonly foreignClient: HttpClient;
}

export interface Token {
  readonly value: string;
  /** Undefined where the server does not say. */
  readonly expiresInMs: number | undefined;
}

const clientId = "containerd-client";
const responseBytesMax = 1 << 20;
const redirectsMax = 10;

/**
 * A token from the server that a registry named: by POST where there is a secret, by GET where
 * there is none or the server does not take a POST.
 */
export async function fetchToken(
  ctx: Context,
  clients: TokenClients,
  request: TokenRequest,
): Promise<Token> {
  if (request.secret === "") return getToken(ctx, clients, request);
  const response = await clients.client.send(ctx, postRequest(request));
  // GCR has answered 404 to a POST, Artifactory 401, ACR 400, others 405.
  const isUntaken =
    [400, 401, 404].includes(response.status) ||
    (response.status === 405 && request.username !== "");
  if (isUntaken) {
    await response.discard();
    return getToken(ctx, clients, request);
  }
  return parseToken("POST", response);
}

function postRequest(request: TokenRequest): HttpRequest {
  const { realm, service, scopes, username, secret, headers } = request;
  const form = new URLSearchParams();
  if (scopes.length > 0) form.set("scope", scopes.join(" "));
  form.set("service", service);
  form.set("client_id", clientId);
  if (username === "") {
    form.set("grant_type", "refresh_token");
    form.set("refresh_token", secret);
  } else {
    form.set("grant_type", "password");
    form.set("username", username);
    form.set("password", secret);
  }
  const body = Buffer.from(form.toString());
  return {
    method: "POST",
    url: realm,
    headers: {
      ...headers,
      "content-type": ["application/x-www-form-urlencoded; charset=utf-8"],
    },
    body: { sizeBytes: body.length, open: () => body },
  };
}

async function getToken(
  ctx: Context,
  clients: TokenClients,
  request: TokenRequest,
): Promise<Token> {
  const { realm, service, scopes, username, secret, headers } = request;
  let url = new URL(realm);
  if (service !== "") url.searchParams.append("service", service);
  for (const scope of scopes) url.searchParams.append("scope", scope);
  let { client } = clients;
  let fields = headers;
  if (secret !== "") {
    const value = Buffer.from(`${username}:${secret}`).toString("base64");
    // What was configured gives way, as in `redirects.ts`.
    fields = { ...headers, authorization: [`Basic ${value}`] };
  }
  for (let redirects = 0; redirects <= redirectsMax; redirects++) {
    const response = await client.send(ctx, { method: "GET", url, headers: fields });
    const location = response.header("location");
    if (response.status < 300 || response.status >= 400 || location === undefined) {
      return parseToken("GET", response);
    }
    await response.discard();
    const next = parseLocation(location, url);
    // What was meant for the realm stays there.
    if (next.origin !== url.origin) {
      client = clients.foreignClient;
      fields = portableHeaders(fields);
    }
    url = next;
  }
  throw new CodedError("unavailable", `token server ${realm.host}: too many redirects`);
}

function parseLocation(location: string, base: URL): URL {
  const url = URL.canParse(location, base) ? new URL(location, base) : undefined;
  if (url && (url.protocol === "https:" || url.protocol === base.protocol)) return url;
  throw new CodedError("unavailable", `token server ${base.host} redirects to no usable address`);
}

/** Servers say null of what they do not say. */
const tokenResponse = v.object({
  token: v.nullish(v.string()),
  access_token: v.nullish(v.string()),
  expires_in: v.nullish(v.number()),
});

async function parseToken(method: string, response: HttpResponse): Promise<Token> {
  if (response.status < 200 || response.status >= 300) {
    throw await unexpectedStatus(method, response);
  }
  const { host } = response.url;
  const body = await readBody(response, responseBytesMax);
  const parsed = v.safeParse(tokenResponse, tryParseJson(body));
  if (!parsed.success) {
    throw new CodedError("unavailable", `unable to decode token response of ${host}`);
  }
  const { token, access_token: accessToken, expires_in: expiresIn } = parsed.output;
  const seconds = expiresIn ?? 0;
  const value = accessToken || token || "";
  if (value === "") {
    const message = `authorization server ${host} did not include a token in the response`;
    throw new CodedError("unavailable", message);
  }
  // It becomes a header; what is wrong with it is not said, since it is a secret.
  if (!/^[\x21-\x7e]+$/.test(value)) {
    throw new CodedError("unavailable", `token of authorization server ${host} is no token`);
  }
  return { value, expiresInMs: seconds > 0 ? seconds * 1000 : undefined };
}

function tryParseJson(body: Buffer | undefined): unknown {
  try {
    return JSON.parse(body?.toString("utf8") ?? "");
  } catch {
    return undefined; // -- refused by the schema
  }
}
