import assert from "node:assert/strict";
import fc from "fast-check";
import { criCredentials, parseCriRegistry } from "#core/remotes/cri-registry.ts";
import { decodeAuth } from "#core/remotes/docker-config.ts";
import { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const word = fc.string({ unit: "grapheme", maxLength: 12 });
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const own = "registry.example:5000";

/** An auth string is the name and the password it was made of or is refused, never quoted; and for its host only. */
export const target = fuzzTarget({
  name: "ParseAuth",
  smokeRuns: 300,
  inputs: fc.record({
    user: word.filter((text) => text !== "" && !/[:\0]/.test(text)),
    password: word.filter((text) => !text.includes("\0")),
    padding: fc.nat(2),
    broken: fc.oneof(
      fc.string({ unit: "binary", minLength: 5, maxLength: 20 }),
      fc.string({ minLength: 5, maxLength: 12 }).map(base64),
    ),
    other: fc.constantFrom(
      "registry.example",
      "example:5000",
      "docker.io",
      `x.${own}`,
      `${own}0`,
      "",
    ),
  }),
  async check({ user, password, padding, broken, other }) {
    const auth = base64(`${user}:${password}${"\0".repeat(padding)}`);
    const credentials = { username: user, secret: password };
    assert.deepEqual(decodeAuth(auth, "here"), credentials);
    try {
      const decoded = decodeAuth(broken, "here");
      const pair = Buffer.from(broken, "base64").toString("utf8").replace(/\0+$/, "");
      assert.equal(`${decoded.username}:${decoded.secret}`, pair);
    } catch (error) {
      if (!hasCode(error, "failed-precondition")) throw error;
      assert.ok(!String(error).includes(broken) || 'here: "auth" is no base64'.includes(broken));
    }
    const ctx = Context.background();
    const table = {
      configs: { [own]: { auth: { auth } } },
      auths: { [`https://${own}/v1/`]: { auth } },
    };
    const source = criCredentials(parseCriRegistry(table));
    assert.deepEqual(await source.get(ctx, own), credentials);
    assert.equal(await source.get(ctx, other), undefined);
  },
});
