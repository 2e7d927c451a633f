import assert from "node:assert/strict";
import { basename } from "node:path";
import fc from "fast-check";
import { noCredentials } from "#core/remotes/credentials.ts";
import { openHost } from "#core/remotes/hosts.ts";
import { directoryNames } from "#core/remotes/hosts-directory.ts";
import { allCapabilities } from "#core/remotes/registry-host.ts";
import { defaultTls } from "#core/remotes/tls-settings.ts";
import { hasCode } from "#pkg/errors.ts";
import { formatReference, parseReference, type Reference } from "#pkg/reference.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const host = fc.oneof(
  fc.domain(),
  fc.ipV4(),
  fc.ipV6().map((address) => `[${address}]`),
  fc.constantFrom(
    "localhost",
    "docker.io",
    "..",
    "1.2.3.4.5",
    "a_b",
    "üb.er",
    "user:pw@host",
    "[::1%25eth0]",
  ),
  fc.string({ maxLength: 6 }),
);
const part = fc.oneof(
  fc.stringMatching(/^[a-z0-9._-]{1,8}$/),
  fc.constantFrom("..", ".", "", "%2e%2e", "%252e", "%2f", "%00", "%zz", "a:b", "a@b", "?q", "#f"),
  fc.string({ unit: "binary", maxLength: 4 }),
);
const written = fc
  .record({
    host,
    port: fc.option(fc.nat(99_999)),
    parts: fc.array(part, { maxLength: 4 }),
    object: fc.oneof(
      fc.constantFrom("", ":", "@", ":latest", ":7@sha256:00", "@sha256:00"),
      fc.string({ maxLength: 6 }),
    ),
  })
  .map(({ host: name, port, parts, object }) => {
    return [name + (port === null ? "" : `:${port}`), ...parts].join("/") + object;
  });

async function assertContained({ hostname, repository }: Reference): Promise<void> {
  for (const name of directoryNames(hostname)) {
    assert.equal(basename(name), name);
    assert.ok(![".", "..", ""].includes(name), name);
  }
  for (const one of repository === "" ? [] : repository.split("/")) {
    assert.ok(!["", ".", ".."].includes(one), repository);
  }
  const unused = { client: async () => ({ send: () => Promise.reject(new Error("not asked")) }) };
  try {
    const opened = await openHost(unused, noCredentials, {
      scheme: "https",
      host: hostname,
      path: "/v2",
      capabilities: allCapabilities,
      headers: {},
      tls: defaultTls,
      dialTimeoutMs: undefined,
      fallsBack: false,
      why: "",
    });
    const { pathname, username, password } = new URL(`https://${opened.host}/x`);
    assert.deepEqual([pathname, username, password], ["/x", "", ""]);
  } catch (error) {
    if (!hasCode(error, "invalid-argument")) throw error;
  }
}

/** A reference never leads out of its host and directory, and written down again it is the same one. */
export const target = fuzzTarget({
  name: "ParseReference",
  smokeRuns: 300,
  inputs: fc.oneof(written, fc.string({ unit: "binary", maxLength: 20 })),
  async check(text) {
    let parsed: Reference;
    try {
      parsed = parseReference(text);
    } catch (error) {
      if (hasCode(error, "invalid-argument")) return;
      throw error;
    }
    await assertContained(parsed);
    const again = formatReference(parsed);
    // What follows a host alone reads as part of it, as upstream.
    if (parsed.repository === "" && parsed.object !== "") return;
    // What was decoded once is not meant to be a second time.
    if (!/[%?#]/.test(again) && !again.includes("://")) {
      assert.deepEqual(parseReference(again), parsed);
    }
  },
});
