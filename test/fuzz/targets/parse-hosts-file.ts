import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { stringify } from "smol-toml";
import { credentialsFrom } from "#core/remotes/credentials.ts";
import { configuredHosts } from "#core/remotes/hosts.ts";
import { parseHostsFile } from "#core/remotes/hosts-file.ts";
import type { HttpRequest, HttpResponse } from "#core/remotes/http-client.ts";
import { isOriginOf } from "#core/remotes/external-host.ts";
import type { RegistryHost } from "#core/remotes/registry-host.ts";
import { perform } from "#core/remotes/registry-request.ts";
import type { ClientSettings } from "#core/remotes/transports.ts";
import { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { outcome } from "#test/fuzz/outcome.ts";
import { fuzzTarget } from "#test/fuzz/target.ts";

const namespace = "registry.example";
const servers = [
  "https://mirror.example",
  "http://mirror.example:5000/v2",
  "mirror.example/path",
  "https://registry.example",
  "https://user:hunter22@mirror.example",
  "https://mirror.example/%zz",
  "https://mirror.example/a/../%2e%2e/b",
  "ftp://mirror.example",
  "constructor",
];
const secretHeader = "own-secret";
const anything = fc.constantFrom(
  true,
  -1,
  "",
  "x",
  [],
  [[]],
  {},
  ["a", "b", "c"],
  [["cert", "key"]],
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 15, arbitrary }, { weight: 1, arbitrary: anything });
const settings = {
  capabilities: maybe(fc.subarray(["pull", "resolve", "Push", "referrers"])),
  ca: maybe(fc.constantFrom("ca.pem", ["ca.pem"])),
  client: maybe(fc.constantFrom("client.pem", [["client.pem", "client.key"]])),
  skip_verify: maybe(fc.boolean()),
  override_path: maybe(fc.boolean()),
  dial_timeout: maybe(fc.constantFrom("3s", "0s", "never")),
  header: maybe(
    fc.dictionary(
      fc.constantFrom("x-own", "Authorization", "constructor", "__proto__", "host", "a b"),
      fc.constantFrom(secretHeader, [secretHeader, "b"], "a\r\nb"),
      { maxKeys: 2, noNullPrototype: true },
    ),
  ),
  unknown: anything,
};
const config = fc.record(settings, { requiredKeys: [] });
const document = fc.record(
  {
    ...settings,
    server: maybe(fc.constantFrom(...servers)),
    host: maybe(
      fc.dictionary(
        fc.oneof(fc.constantFrom(...servers), fc.string({ maxLength: 8 })),
        maybe(config),
        {
          maxKeys: 2,
          noNullPrototype: true,
        },
      ),
    ),
  },
  { requiredKeys: [] },
);
/** What servers answer, one after the other; `own` and `other` are where they lead to. */
const answer = fc.record({
  kind: fc.constantFrom("redirect", "redirect", "basic", "bearer", "token", "ok"),
  place: fc.constantFrom("own", "other", "plain"),
});
type Answer = typeof answer extends fc.Arbitrary<infer T> ? T : never;

interface Sent {
  readonly settings: ClientSettings;
  readonly request: HttpRequest;
}

function respond(host: RegistryHost, { kind, place }: Answer, { url }: HttpRequest): HttpResponse {
  const places = {
    own: `${host.scheme}://${host.host}/place`,
    other: "https://other.example/place",
    plain: `http://${new URL(`http://${host.host}`).hostname}:8080/place`,
  };
  const fields: Record<string, Record<string, string>> = {
    redirect: { location: places[place] },
    basic: { "www-authenticate": 'Basic realm="x"' },
    // Whom the host itself trusts with its credentials is its own affair: here it trusts itself.
    bearer: { "www-authenticate": `Bearer realm="${url.protocol}//${url.host}/token"` },
  };
  const status = { redirect: 307, basic: 401, bearer: 401, token: 200, ok: 200 }[kind];
  const line = (name: string): string | undefined => fields[kind]?.[name];
  const body = (async function* () {
    if (kind === "token") yield Buffer.from('{"token":"issued"}');
  })();
  return {
    url,
    status,
    header: line,
    headerNames: () => Object.keys(fields[kind] ?? {}),
    headerLines: (name) => [line(name)].filter((one) => one !== undefined),
    body,
    bulk: body,
    discard: () => Promise.resolve(),
  };
}

/** What others than the host were told: not what is in its file, nor what its user has for it. */
function assertKept(host: RegistryHost, { settings, request }: Sent): void {
  const { url, headers, body } = request;
  const isOwn = (["https", "http"] as const).some((scheme) => isOriginOf(url, { ...host, scheme }));
  if (isOwn) return;
  const opened = body?.open();
  const form = opened instanceof Uint8Array ? Buffer.from(opened).toString() : "";
  const told = JSON.stringify(headers) + form;
  const where = `${url.href} of ${host.scheme}://${host.host} got ${told}`;
  assert.ok(!told.includes(secretHeader), where);
  assert.ok(!told.includes("hunter23") && !told.includes("Basic"), where);
  assert.deepEqual(settings.tls.clientPairs, [], where);
}

async function assertSecretsKept(root: string, answers: readonly Answer[]): Promise<void> {
  const sent: Sent[] = [];
  let left: Answer[] = [];
  let asked: RegistryHost | undefined;
  const client = async (settings: ClientSettings) => ({
    send: async (_ctx: Context, request: HttpRequest): Promise<HttpResponse> => {
      assert.ok(asked);
      sent.push({ settings, request });
      return respond(asked, left.shift() ?? { kind: "ok", place: "own" }, request);
    },
  });
  const credentials = credentialsFrom("here", async () => ({ username: "u", secret: "hunter23" }));
  const hosts = configuredHosts({ client }, { roots: [root], credentials });
  const ctx = Context.background();
  for (const host of await hosts(ctx, namespace)) {
    asked = host;
    left = [...answers];
    sent.length = 0;
    const url = new URL(`${host.scheme}://${host.host}/v2/a/manifests/1`);
    const request = { method: "GET", url, headers: {}, scopes: ["repository:a:pull"] };
    await outcome(perform(ctx, host, request, { isLastHost: false }));
    for (const one of sent) assertKept(host, one);
  }
}

/** What hosts.toml holds for a host reaches no other one; what is none is refused in words without its secrets. */
export const target = fuzzTarget({
  name: "ParseHostsFile",
  smokeRuns: 150,
  inputs: fc.record({
    document,
    garbage: fc.option(fc.string({ unit: "binary", maxLength: 30 }), { freq: 8 }),
    answers: fc.array(answer, { maxLength: 6 }),
  }),
  async check({ document: given, garbage, answers }, dir) {
    const text = garbage ?? stringify(given);
    const directory = join(dir, namespace);
    try {
      const { unknownKeys } = parseHostsFile(text, "hosts.toml", directory);
      assert.ok(!unknownKeys.join().includes("hunter22"));
    } catch (error) {
      if (!hasCode(error, "invalid-argument")) throw error;
      assert.ok(!String(error).includes("hunter22"), String(error));
      return;
    }
    await mkdir(directory);
    await writeFile(join(directory, "hosts.toml"), text);
    await assertSecretsKept(dir, answers);
  },
});
