import assert from "node:assert/strict";
import { test } from "node:test";
import { noCredentials } from "#core/remotes/credentials.ts";
import { resolverOpener } from "#plugins/transfer/open-resolver.ts";

test("what a client says of hosts and header fields is held to the rules of configuration", () => {
  const open = resolverOpener(
    { client: () => Promise.reject(new Error("nothing is asked")) },
    {
      rules: { roots: [], cri: undefined, credentials: noCredentials },
      downloadsMax: 1,
      rangeBytes: 0,
    },
  );
  const registry = {
    kind: "registry",
    reference: "r.example/a:1",
    headers: {},
    hostDir: "",
    defaultScheme: "",
    credentials: undefined,
  } as const;
  assert.ok(open({ ...registry, headers: { "X-Mine": "1" } }));
  for (const [wrong, message] of [
    [{ headers: { Host: "evil" } }, /^headers\."Host": cannot be configured/],
    [{ headers: { "content-length": "7" } }, /cannot be configured/],
    [{ headers: { "a b": "1" } }, /no name of a header field/],
    [{ headers: { a: "1\r\nb: 2" } }, /^headers\."a": characters that a header cannot have/],
    [{ hostDir: "certs.d" }, /^host_dir "certs\.d" is not absolute/],
    [{ defaultScheme: "ftp" }, /^default_scheme "ftp" is neither/],
  ] as const) {
    const refused = { code: "invalid-argument", message };
    assert.throws(() => open({ ...registry, ...wrong }), refused);
  }
});
