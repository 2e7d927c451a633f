import { type Challenge, parseChallenges } from "#core/remotes/challenge.ts";
import type { Credentials, CredentialSource } from "#core/remotes/credentials.ts";
import type { HeaderFields, HttpClient } from "#core/remotes/http-client.ts";
import { fetchToken, type TokenRequest } from "#core/remotes/token.ts";
import { TokenCache } from "#core/remotes/token-cache.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, codeOf, wrap } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";

/** A request that was answered with 401. */
export interface Unauthorized {
  readonly method: string;
  readonly url: URL;
  readonly scopes: readonly string[];
  /** The lines of `WWW-Authenticate`. */
  readonly challenges: readonly string[];
}

/**
 * Learns from a host's answers how it wants to be asked, and keeps tokens.
 *
 * Credentials are for one host. Any other that a request ends up at by redirects gets at most an
 * anonymous token from the server that it names itself.
 */
export interface Authorizer {
  /**
   * The `Authorization` header for a URL; undefined while nothing has been learnt about its host.
   * Throws when a token server refuses or cannot be reached.
   */
  authorization(ctx: Context, url: URL, scopes: readonly string[]): Promise<string | undefined>;
  /**
   * Takes in the last of the answers to one request. True: ask again. False: it wants something
   * that is not known here. Throws `unauthenticated` when asking again would bring nothing.
   */
  learn(ctx: Context, answers: readonly Unauthorized[]): Promise<boolean>;
}

export interface AuthorizerOptions {
  /** The host that credentials are asked for. */
  readonly host: string;
  /** More than one where it is not known whether the host speaks TLS. */
  readonly origins: readonly string[];
  readonly credentials: CredentialSource;
  /** For a token server at the host itself. */
  readonly client: HttpClient;
  /** For one elsewhere that the host names. */
  readonly tokenClient: HttpClient;
  /** For one that others than the host name. */
  readonly foreignClient: HttpClient;
  /** For a token server at the host itself. */
  readonly headers: HeaderFields;
  readonly userAgent: HeaderFields;
}

type Handler =
  | { readonly kind: "header"; readonly value: string }
  | {
      readonly kind: "bearer";
      readonly request: Omit<TokenRequest, "scopes">;
      readonly tokens: TokenCache;
      /** What a challenge wanted beyond the scopes that a request had. */
      readonly extraScopes: Map<string, readonly string[]>;
    };

const extraScopesMax = 1_000;

export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  return new ChallengeAuthorizer(options);
}

class ChallengeAuthorizer implements Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #handlers = new Map<string, Handler>();
  /** However many requests are challenged at once, credentials are asked for once. */
  readonly #coming = new Map<string, Promise<Handler>>();

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  async authorization(
    ctx: Context,
    url: URL,
    scopes: readonly string[],
  ): Promise<string | undefined> {
    const handler = this.#handlers.get(this.#key(url));
    if (handler?.kind !== "bearer") return handler?.value;
    const wanted = [...scopes, ...(handler.extraScopes.get(scopeKey(scopes)) ?? [])];
    const unique = [...new Set(wanted)].toSorted();
    const { foreignClient } = this.#options;
    const clients = { client: this.#tokenClient(url, handler.request.realm), foreignClient };
    const token = await handler.tokens.get(ctx, unique.join(" "), async () => {
      const what = handler.request.secret === "" ? "anonymous" : "oauth";
      try {
        return await fetchToken(ctx, clients, { ...handler.request, scopes: unique });
      } catch (error) {
        throw wrap(`failed to authorize: failed to fetch ${what} token`, error);
      }
    });
    return `Bearer ${token}`;
  }

  async learn(ctx: Context, answers: readonly Unauthorized[]): Promise<boolean> {
    const last = answers.at(-1);
    if (!last) return false;
    const key = this.#key(last.url);
    const refusals = answers.length - (answers.findLastIndex((one) => !isSame(one, last)) + 1);
    for (const challenge of parseChallenges(last.challenges)) {
      if (challenge.scheme === "bearer") {
        return this.#learnBearer(ctx, { key, last, challenge, refusals });
      }
      if (challenge.scheme === "basic" && this.#isOwn(last.url)) {
        return this.#learnBasic(ctx, key, refusals);
      }
    }
    return false;
  }

  async #learnBearer(
    ctx: Context,
    given: { key: string; last: Unauthorized; challenge: Challenge; refusals: number },
  ): Promise<boolean> {
    const { key, last, challenge, refusals } = given;
    const problem = challenge.parameters.get("error") ?? "";
    if (problem !== "" && refusals > 1) {
      this.#handlers.delete(key);
      throw refused(`server message: ${problem.slice(0, 64)}: authorization failed`);
    }
    if (refusals > 2) {
      this.#handlers.delete(key);
      throw refused("authorization failed");
    }
    // The token is not what it should be: the next is a new one, for whatever is wanted now.
    if (problem !== "" || refusals > 1) this.#handlers.delete(key);
    const handler = this.#handlers.get(key) ?? (await this.#open(ctx, key, last.url, challenge));
    const scope = challenge.parameters.get("scope")?.split(" ").filter(Boolean) ?? [];
    if (handler.kind === "bearer" && handler.extraScopes.size < extraScopesMax) {
      handler.extraScopes.set(scopeKey(last.scopes), scope);
    }
    return true;
  }

  async #open(ctx: Context, key: string, url: URL, challenge: Challenge): Promise<Handler> {
    for (let coming = this.#coming.get(key); coming; coming = this.#coming.get(key)) {
      try {
        return await settledOrAborted(coming, ctx);
      } catch (error) {
        ctx.throwIfEnded();
        // Who asked first has given up, which is no reason for the others to.
        if (!["canceled", "deadline-exceeded"].includes(codeOf(error))) throw error;
      }
    }
    const opening = this.#bearer(ctx, url, challenge);
    this.#coming.set(key, opening);
    try {
      const handler = await opening;
      this.#handlers.set(key, handler);
      return handler;
    } finally {
      this.#coming.delete(key);
    }
  }

  async #bearer(ctx: Context, url: URL, challenge: Challenge): Promise<Handler> {
    const credentials = await this.#credentials(ctx, url);
    if (credentials?.header !== undefined) return { kind: "header", value: credentials.header };
    const realm = parseRealm(challenge, url);
    const { username, secret } = credentials ?? { username: "", secret: "" };
    if (secret !== "") assertNotPlainer(realm, url);
    const { headers, userAgent } = this.#options;
    return {
      kind: "bearer",
      request: {
        realm,
        service: challenge.parameters.get("service") ?? "",
        username,
        secret,
        headers: { ...userAgent, ...(this.#isOwn(realm) ? headers : {}) },
      },
      tokens: new TokenCache(),
      extraScopes: new Map(),
    };
  }

  async #learnBasic(ctx: Context, key: string, refusals: number): Promise<boolean> {
    if (refusals > 1) {
      this.#handlers.delete(key);
      throw refused("authorization failed");
    }
    const credentials = await this.#options.credentials.get(ctx, this.#options.host);
    const { username = "", secret = "", header } = credentials ?? {};
    if (header === undefined && (username === "" || secret === "")) {
      throw refused("authorization failed: no basic auth credentials");
    }
    const pair = Buffer.from(`${username}:${secret}`).toString("base64");
    this.#handlers.set(key, { kind: "header", value: header ?? `Basic ${pair}` });
    return true;
  }

  async #credentials(ctx: Context, url: URL): Promise<Credentials | undefined> {
    const { credentials, host } = this.#options;
    return this.#isOwn(url) ? credentials.get(ctx, host) : undefined;
  }

  #tokenClient(url: URL, realm: URL): HttpClient {
    const { client, tokenClient, foreignClient } = this.#options;
    if (!this.#isOwn(url)) return foreignClient;
    return this.#isOwn(realm) ? client : tokenClient;
  }

  #isOwn(url: URL): boolean {
    return this.#options.origins.includes(url.origin);
  }

  #key(url: URL): string {
    return this.#isOwn(url) ? "own" : url.origin;
  }
}

function isSame(one: Unauthorized, other: Unauthorized): boolean {
  return one.method === other.method && one.url.href === other.url.href;
}

function scopeKey(scopes: readonly string[]): string {
  return scopes.toSorted().join(" ");
}

function parseRealm(challenge: Challenge, url: URL): URL {
  const realm = challenge.parameters.get("realm");
  if (realm === undefined || realm === "") {
    throw refused(`${url.host}: no realm specified for token auth challenge`);
  }
  const parsed = URL.canParse(realm) ? new URL(realm) : undefined;
  if (parsed && /^https?:$/.test(parsed.protocol)) return parsed;
  throw refused(`${url.host}: invalid token auth challenge realm ${JSON.stringify(realm)}`);
}

/** Credentials for a host with TLS do not go in the clear because the host says so. */
function assertNotPlainer(realm: URL, url: URL): void {
  if (realm.protocol === "https:" || url.protocol !== "https:") return;
  throw refused(
    `${url.host} has TLS but names a token server without: credentials are not sent to ` +
      `${realm.origin}`,
  );
}

function refused(message: string): CodedError {
  return new CodedError("unauthenticated", message);
}
