import type { Context } from "#pkg/context.ts";

/** What proves to a registry who asks. Never logged, never part of an error. */
export interface Credentials {
  /** Empty: `secret` is an identity token, exchanged for access tokens. */
  readonly username: string;
  readonly secret: string;
  /** A whole `Authorization` value to be used as it is, instead of the two above. */
  readonly header?: string | undefined;
}

/** Knows credentials by the host that they are for, which is the only one that gets them. */
export interface CredentialSource {
  /** Undefined where there are none for this host: it is then asked anonymously. */
  get(ctx: Context, host: string): Promise<Credentials | undefined>;
  /** Where those for this host are from, for people: never the value, nor the name of a user. */
  describe(ctx: Context, host: string): Promise<string | undefined>;
}

export const noCredentials: CredentialSource = {
  get: () => Promise.resolve(undefined),
  describe: () => Promise.resolve(undefined),
};

/** Asks a function, such as a client at the other end of a stream. `from` names it to people. */
export function credentialsFrom(
  from: string,
  get: (ctx: Context, host: string) => Promise<Credentials | undefined>,
): CredentialSource {
  return { get, describe: () => Promise.resolve(from) };
}

/** The same for one host: those of a command line. */
export function staticCredentials(
  host: string,
  credentials: Credentials,
  from: string,
): CredentialSource {
  const isSame = (asked: string): boolean => canonicalHost(asked) === canonicalHost(host);
  return {
    get: (_ctx, asked) => Promise.resolve(isSame(asked) ? credentials : undefined),
    describe: (_ctx, asked) => Promise.resolve(isSame(asked) ? from : undefined),
  };
}

/** The first source that knows the host. */
export function firstOf(sources: readonly CredentialSource[]): CredentialSource {
  return {
    async get(ctx, host) {
      for (const source of sources) {
        const credentials = await source.get(ctx, host);
        if (credentials) return credentials;
      }
      return undefined;
    },
    async describe(ctx, host) {
      for (const source of sources) {
        const from = await source.describe(ctx, host);
        if (from !== undefined) return from;
      }
      return undefined;
    },
  };
}

const dockerHubNames: readonly string[] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/** One name for the names of one registry: Docker Hub has three. */
export function canonicalHost(host: string): string {
  const lower = host.toLowerCase();
  return dockerHubNames.includes(lower) ? "docker.io" : lower;
}
