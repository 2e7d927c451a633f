import type { Token } from "#core/remotes/token.ts";
import type { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";

interface Entry {
  readonly token: Promise<Token>;
  /** In `performance.now()`; set when the token is there. */
  expiresAtMs: number;
}

const entriesMax = 1_000;
/** What the specification gives to tokens that do not say it. */
const defaultLifetimeMs = 60_000;

/** Tokens by what they are for. However many ask at once, one is fetched. */
export class TokenCache {
  readonly #entries = new Map<string, Entry>();

  /** A failed fetch fails all who wait for it, and is not kept. */
  async get(ctx: Context, key: string, fetch: () => Promise<Token>): Promise<string> {
    for (;;) {
      const known = this.#entries.get(key);
      if (!known || known.expiresAtMs <= performance.now()) return this.#fetch(key, fetch);
      try {
        return (await settledOrAborted(known.token, ctx)).value;
      } catch (error) {
        ctx.throwIfEnded();
        // Who fetched has given up, which is no reason for the others to.
        if (!["canceled", "deadline-exceeded"].includes(codeOf(error))) throw error;
      }
    }
  }

  async #fetch(key: string, fetch: () => Promise<Token>): Promise<string> {
    const entry: Entry = { token: Promise.try(fetch), expiresAtMs: Number.POSITIVE_INFINITY };
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > entriesMax && oldest !== undefined) this.#entries.delete(oldest);
    try {
      const { value, expiresInMs = defaultLifetimeMs } = await entry.token;
      // A little early: the token has to last until the registry has looked at it.
      entry.expiresAtMs = performance.now() + expiresInMs - Math.min(10_000, expiresInMs / 10);
      return value;
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      throw error;
    }
  }
}
