import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseHostsFile } from "#core/remotes/hosts-file.ts";
import { joinHeaders } from "#core/remotes/http-client.ts";
import { hasCode } from "#pkg/errors.ts";

const parse = (text: string) => parseHostsFile(text, "/c/hosts.toml", "/c");

const everything = `
server = "https://registry.example"
ca = "/etc/default.pem"
[header]
  x-custom-1 = "custom header"

[host."https://mirror.registry"]
  capabilities = ["pull"]
  ca = "certs/mirror.pem"
  skip_verify = false
  [host."https://mirror.registry".header]
    X-Custom-2 = ["value1", "value2"]

[host."https://mirror-bak.registry/us/"]
  capabilities = ["Pull", "resolve"]
  skip_verify = true

[host."http://mirror.registry:5000"]
  capabilities = ["pull"]

[host."test-1.registry"]
  ca = ["/a.pem", "b.pem"]
  client = [["client.cert", "/client.key"], ["both.pem", ""]]

[host."https://test-2.registry"]
  client = "client.pem"

[host."https://test-3.registry"]
  client = ["/1.pem", "/2.pem"]

[host."https://noncompliant.registry/v2/namespace"]
  capabilities = ["pull"]
  override_path = true

[host."https://bare.registry"]
  override_path = true
  dial_timeout = "1m2s"

[host."https://onlyheader.registry".header]
  x-a = "b"
`;

test("hosts.toml: every key, the hosts in their order, the registry itself last", () => {
  const { hosts, unknownKeys } = parse(everything);
  assert.deepEqual(unknownKeys, []);
  assert.deepEqual(
    hosts.map(({ server }) => server && `${server.scheme}://${server.host}${server.path}`),
    [
      "https://mirror.registry/v2",
      "https://mirror-bak.registry/us/v2",
      "http://mirror.registry:5000/v2",
      "https://test-1.registry/v2",
      "https://test-2.registry/v2",
      "https://test-3.registry/v2",
      "https://noncompliant.registry/v2/namespace",
      "https://bare.registry",
      "https://onlyheader.registry/v2",
      "https://registry.example/v2",
    ],
  );
  const [mirror, backup, , pairs, single, several, , bare, headerOnly, registry] = hosts;
  assert.deepEqual(mirror?.capabilities, ["pull"]);
  assert.deepEqual(mirror?.caFiles, ["/c/certs/mirror.pem"]);
  assert.equal(mirror?.skipVerify, false);
  assert.deepEqual(mirror?.headers, { "x-custom-2": ["value1", "value2"] });
  assert.deepEqual(backup?.capabilities, ["pull", "resolve"]);
  assert.equal(backup?.skipVerify, true);
  assert.deepEqual(pairs?.capabilities, ["pull", "resolve", "push", "referrers"]);
  assert.deepEqual(pairs?.caFiles, ["/a.pem", "/c/b.pem"]);
  assert.deepEqual(pairs?.clientPairs, [
    { cert: "/c/client.cert", key: "/client.key" },
    { cert: "/c/both.pem" },
  ]);
  assert.deepEqual(single?.clientPairs, [{ cert: "/c/client.pem" }]);
  assert.deepEqual(several?.clientPairs, [{ cert: "/1.pem" }, { cert: "/2.pem" }]);
  assert.equal(bare?.dialTimeoutMs, 62_000);
  assert.deepEqual(headerOnly?.headers, { "x-a": ["b"] });
  assert.deepEqual(registry?.headers, { "x-custom-1": ["custom header"] });
  assert.deepEqual(registry?.caFiles, ["/etc/default.pem"]);
});

test("without server, the last host is the registry by its own name", () => {
  const { hosts } = parse('[host."m"]\n');
  assert.deepEqual(
    hosts.map(({ server }) => server?.host),
    ["m", undefined],
  );
});

test("what it does not say is told from what it says", () => {
  const { hosts, unknownKeys } = parse('[host."m"]\nrewrite = 1\n[extra]\na = 1\n');
  assert.deepEqual(unknownKeys, ["extra", 'host."m".rewrite']);
  assert.equal(hosts[0]?.skipVerify, undefined);
  assert.equal(hosts[0]?.caFiles, undefined);
  assert.equal(hosts[0]?.clientPairs, undefined);
});

test("what cannot be understood is refused naming file and key", () => {
  const cases: Readonly<Record<string, RegExp>> = {
    "server = 1": /^\/c\/hosts\.toml: server: a string is expected, not 1$/,
    'server = "https://u:p@x"': /server: .* is no server/,
    'server = "https://x/?q"': /server: .* is no server/,
    'server = "https://"': /server: .* is no server/,
    'server = "ftp://x"':
      /^\/c\/hosts\.toml: server: "ftp:\/\/x" has the scheme ftp: http or https is expected$/,
    'server = "unix:///run/x"': /server: "unix:.*" has the scheme unix: /,
    'server = "http:/x"': /server: "http:\/x" is no server/,
    'server = "x:"': /server: "x:" is no server/,
    '[host."ftp://x/v2"]': /host\."ftp:\/\/x\/v2": "ftp:.*" has the scheme ftp: /,
    'server = "https://x/%zz"': /server: malformed percent-encoding in its path$/,
    'skip_verify = "yes"': /skip_verify: true or false is expected, not "yes"$/,
    'dial_timeout = "3"': /dial_timeout: "3" is no duration such as "3s"$/,
    'dial_timeout = "-3s"': /dial_timeout: /,
    'capabilities = ["fly"]': /capabilities: unknown capability "fly": one of pull, /,
    'capabilities = "pull"': /capabilities: a list of strings is expected, not "pull"$/,
    "ca = 1": /ca: a list of strings is expected, not 1$/,
    'client = [["a", "b", "c"]]': /client: pairs are \["CERTIFICATE", "KEY"\]$/,
    'client = [["a"]]': /client: pairs are/,
    '[host."m"]\nca = [1]': /host\."m"\.ca: a string is expected, not 1$/,
    '[host."m".header]\nx = 1': /host\."m"\.header\."x": a string or a list/,
    '[host."m".header]\n"a b" = "x"': /header\."a b": no name of a header field$/,
    '[host."m".header]\nx = "a\\nb"': /header\."x": characters that a header cannot have$/,
    '[host."m".header]\nHost = "x"': /header\."Host": cannot be configured$/,
    "host = 1": /host: a table is expected, not 1$/,
    "[host]\nm = 1979-05-27": /host\."m": a table is expected, not another$/,
    "a = = b": /^\/c\/hosts\.toml: line 1, column \d+: /,
  };
  for (const [text, message] of Object.entries(cases)) {
    assert.throws(() => parse(text), { code: "invalid-argument", message }, text);
  }
});

test("the value of a header is not part of an error", () => {
  assert.throws(
    () => parse('[header]\nauthorization = "Basic s3cret\\u0007"'),
    (error) => error instanceof Error && !error.message.includes("s3cret"),
  );
});

test("a password in the name of a server is not part of an error", () => {
  for (const server of [
    "https://u:s3cret@x",
    "u:s3cret@x",
    "http://u:s3@cret@x/y",
    "https://u:s3@cret@x",
  ]) {
    for (const text of [
      `server = "${server}"`,
      `[host."${server}"]`,
      `[host."${server}"]\nca = 1`,
    ]) {
      assert.throws(
        () => parse(text),
        (error) => hasCode(error, "invalid-argument") && !/s3|cret/.test(String(error)),
        text,
      );
    }
  }
});

test("the name of a header field may be one that objects have", () => {
  const { hosts } = parse('[header]\nconstructor = "a"\n__proto__ = ["b", "c"]');
  const headers = Object.entries(joinHeaders({ accept: ["x"] }, hosts[0]?.headers ?? {}));
  assert.deepEqual(headers, [
    ["accept", ["x"]],
    ["constructor", ["a"]],
    ["__proto__", ["b", "c"]],
  ]);
});

test("property: any text is parsed or refused with the file's name", () => {
  const piece = fc.constantFrom(
    '[host."a"]',
    "\n",
    "server",
    " = ",
    '"x"',
    "[",
    "]",
    "ca",
    "client",
    "1",
    "true",
    "header",
    "{",
    "}",
    '"https://h:1/p"',
    "capabilities",
    '["pull"]',
    "[[host]]",
    "__proto__",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(piece).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(text, (input) => {
      try {
        assert.ok(parse(input).hosts.length > 0);
      } catch (error) {
        assert.ok(hasCode(error, "invalid-argument"), String(error));
        assert.match(String(error), /\/c\/hosts\.toml: /);
      }
    }),
    { numRuns: 2000 },
  );
});
