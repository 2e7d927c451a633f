import assert from "node:assert/strict";
import { test } from "node:test";
import { createAuthorizer } from "#core/remotes/authorizer.ts";
import { staticCredentials } from "#core/remotes/credentials.ts";
import type { HttpClient, HttpResponse } from "#core/remotes/http-client.ts";
import { allCapabilities, type RegistryHost } from "#core/remotes/registry-host.ts";
import { perform } from "#core/remotes/registry-request.ts";
import { Context } from "#pkg/context.ts";

const ctx = Context.background();
const https = "https://localhost:5000/v2/a";
const http = "http://localhost:5000/v2/a";

type Headers = Readonly<Record<string, string>>;
type Answers = (url: string, authorization: string | undefined) => readonly [number, Headers];

/** A host of which it is not known whether it has TLS, that answers as it is told. */
function hostOf(answers: Answers): { host: RegistryHost; sent: string[] } {
  const sent: string[] = [];
  const client: HttpClient = {
    async send(_ctx, { url, headers }) {
      const [authorization] = headers["authorization"] ?? [];
      sent.push(`${url.href} ${authorization ?? "-"}`);
      const [status, fields] = answers(url.href, authorization);
      return response(url, status, fields);
    },
  };
  const host = "localhost:5000";
  const credentials = staticCredentials(host, { username: "me", secret: "s3cret" }, "the test");
  const clients = { client, tokenClient: client, foreignClient: client };
  const authorizer = createAuthorizer({
    ...clients,
    host,
    origins: [`https://${host}`, `http://${host}`],
    credentials,
    headers: {},
    userAgent: {},
  });
  return {
    host: {
      scheme: "https",
      host,
      path: "/v2",
      capabilities: allCapabilities,
      headers: {},
      client,
      foreignClient: client,
      authorizer,
    },
    sent,
  };
}

function response(url: URL, status: number, fields: Headers): HttpResponse {
  const body = (async function* (): AsyncIterable<Uint8Array> {})();
  return {
    url,
    status,
    header: (name) => fields[name],
    headerNames: () => Object.keys(fields),
    headerLines: (name) => (fields[name] === undefined ? [] : [fields[name]]),
    body,
    bulk: body,
    discard: () => Promise.resolve(),
  };
}

const ask = (host: RegistryHost): ReturnType<typeof perform> => {
  const request = { method: "GET", url: new URL(https), headers: {}, scopes: [] };
  return perform(ctx, host, request, { isLastHost: true });
};

const basic = `Basic ${Buffer.from("me:s3cret").toString("base64")}`;

test("credentials for a host do not go in the clear where it redirects from https to http", async () => {
  const { host, sent } = hostOf((url, authorization) => {
    if (url === http) return [200, {}];
    if (authorization === undefined) return [401, { "www-authenticate": "Basic" }];
    return [307, { location: http }];
  });
  const { response: last } = await ask(host);
  assert.equal(last.status, 200);
  assert.deepEqual(sent, [`${https} -`, `${https} ${basic}`, `${http} -`]);
});

test("what asks for credentials at the end of such a redirect is not given any", async () => {
  for (const challenge of ["Basic", 'Bearer realm="http://evil.example/token"']) {
    const { host, sent } = hostOf((url) => {
      if (url === https) return [307, { location: http }];
      return [401, { "www-authenticate": challenge }];
    });
    const { response: last } = await ask(host);
    assert.equal(last.status, 401);
    assert.deepEqual(sent, [`${https} -`, `${http} -`]);
  }
});
