import type { ServerOptions } from "node:https";
import {
  type Exchange,
  type FaultServer,
  startFaultServer,
  status,
} from "#test/support/registry/fault-server.ts";

export interface TokenRequestSeen {
  readonly method: string;
  readonly authorization: string | undefined;
  /** Query of a GET, form of a POST. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly scopes: readonly string[];
}

export interface TokenServer extends FaultServer {
  readonly realm: string;
  readonly seen: readonly TokenRequestSeen[];
  /** Those that it has given out and that hold. */
  readonly tokens: Set<string>;
  /** Members of the answer besides the token; may change while it runs. */
  readonly answer: { field: "token" | "access_token"; expiresIn: number | undefined };
  /** The challenge that leads here. */
  challenge(scope: string, error?: string): string;
}

export interface TokenServerOptions {
  /** `user:password`; undefined: anybody. */
  readonly user?: string;
  readonly identityToken?: string;
  /** What a POST is answered with; undefined: a token. */
  readonly postStatus?: number;
  readonly tls?: ServerOptions;
  readonly name?: string;
}

/** Gives out tokens, by POST and by GET, to whoever proves to be the user. */
export async function startTokenServer(options: TokenServerOptions = {}): Promise<TokenServer> {
  const seen: TokenRequestSeen[] = [];
  const tokens = new Set<string>();
  const answer: TokenServer["answer"] = { field: "token", expiresIn: 300 };
  const { tls, name } = options;
  const serve = async (exchange: Exchange): Promise<void> => {
    const request = await parse(exchange);
    seen.push(request);
    if (request.method === "POST" && options.postStatus !== undefined) {
      return status(options.postStatus)(exchange);
    }
    if (!isAllowed(request, options)) {
      const errors = [{ code: "UNAUTHORIZED", message: "incorrect username or password" }];
      return status(401, {}, JSON.stringify({ errors }))(exchange);
    }
    const token = `token-${tokens.size + 1}`;
    tokens.add(token);
    const body = { [answer.field]: token, expires_in: answer.expiresIn };
    return status(200, { "content-type": "application/json" }, JSON.stringify(body))(exchange);
  };
  const server = await startFaultServer(serve, { ...(tls && { tls }), ...(name && { name }) });
  const realm = `${server.origin}/token`;
  return Object.assign(server, {
    realm,
    seen,
    tokens,
    answer,
    challenge: (scope: string, error?: string) =>
      `Bearer realm="${realm}",service="registry.test",scope="${scope}"` +
      (error === undefined ? "" : `,error="${error}"`),
  });
}

async function parse(exchange: Exchange): Promise<TokenRequestSeen> {
  const { method = "", headers } = exchange.request;
  const isPost = method === "POST";
  const form = isPost
    ? new URLSearchParams((await exchange.body()).toString())
    : exchange.url.searchParams;
  const scopes = isPost ? (form.get("scope") ?? "").split(" ") : form.getAll("scope");
  return {
    method,
    authorization: headers.authorization,
    parameters: Object.fromEntries(form),
    scopes: scopes.filter((scope) => scope !== ""),
  };
}

function isAllowed(
  { method, authorization, parameters }: TokenRequestSeen,
  { user, identityToken }: TokenServerOptions,
): boolean {
  if (user === undefined && identityToken === undefined) return true;
  if (parameters["grant_type"] === "refresh_token") {
    return parameters["refresh_token"] === identityToken;
  }
  if (method === "POST") return `${parameters["username"]}:${parameters["password"]}` === user;
  return authorization === `Basic ${Buffer.from(user ?? "").toString("base64")}`;
}

/** Holds a registry's requests to tokens of the server. */
export function requireToken(
  registry: FaultServer,
  tokens: TokenServer,
  scope: string,
  match: RegExp = /./,
): void {
  registry.rule({
    match,
    when: ({ headers }) => !tokens.tokens.has((headers.authorization ?? "").replace("Bearer ", "")),
    answer: status(401, { "www-authenticate": tokens.challenge(scope) }),
  });
}
