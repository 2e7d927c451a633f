import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import * as v from "valibot";
import type { Config } from "#cmd/containerd/config/config.ts";
import { defaultConfig } from "#cmd/containerd/config/config.ts";
import { loadConfig } from "#cmd/containerd/config/load.ts";
import { formatConfig } from "#cmd/containerd/config/output.ts";
import { formatText } from "#pkg/log-format.ts";
import { LogWriter } from "#pkg/log-writer.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { type AnyPlugin, definePlugin, pluginType } from "#pkg/plugin/plugin.ts";

type Files = Readonly<Record<string, string>>;
interface Loaded {
  readonly config: Config;
  readonly warnings: readonly string[];
  readonly dir: string;
}

/** Loads `main.toml` of the files given. */
async function load(files: Files, plugins: readonly AnyPlugin[] = []): Promise<Loaded> {
  await using dir = await mkdtempDisposable(`${tmpdir()}/config-`);
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir.path, name)), { recursive: true });
    await writeFile(join(dir.path, name), text);
  }
  const warnings: string[] = [];
  const write = (line: string): void =>
    void warnings.push(
      line
        .replace(/^.*?msg=/, "")
        .replaceAll(dir.path, "DIR")
        .trim(),
    );
  const { root: logger } = new LogWriter({ level: "info", format: formatText, write });
  const path = join(dir.path, "main.toml");
  try {
    const config = await loadConfig(path, { plugins, logger });
    // The parser's tables have no prototype.
    const plain = JSON.parse(JSON.stringify(config)) as Config; // -- nothing but JSON is in it
    return { config: plain, warnings, dir: dir.path };
  } catch (error) {
    if (error instanceof Error) error.message = error.message.replaceAll(dir.path, "DIR");
    throw error;
  }
}

const refused = (files: Files, message: string | RegExp, code: string): Promise<void> =>
  assert.rejects(load(files), { code, message });

test("a file of version 4 is taken as it is", async () => {
  const { config, warnings } = await load({
    "main.toml": `version = 4
root = "/r"
oom_score = -5
disabled_plugins = ["io.containerd.a.v1.b"]
[debug]
level = "debug"
[timeouts]
"io.containerd.timeout.task.state" = "3s"
[plugins."io.containerd.server.v1.grpc"]
address = "/s"
[proxy_plugins.stargz]
type = "snapshot"
address = "/p"
`,
  });
  assert.deepEqual(config, {
    ...defaultConfig(),
    root: "/r",
    oomScore: -5,
    disabledPlugins: ["io.containerd.a.v1.b"],
    debug: { level: "debug", format: "", logTraceId: false },
    timeouts: { "io.containerd.timeout.task.state": "3s" },
    plugins: { "io.containerd.server.v1.grpc": { address: "/s" } },
    proxyPlugins: {
      stargz: { type: "snapshot", address: "/p", platform: "", exports: {}, capabilities: [] },
    },
  });
  assert.deepEqual(warnings, []);
});

test("listeners of versions 2 and 3 become plugins; ttrpc stands beside gRPC", async () => {
  for (const version of [2, 3]) {
    const { config, warnings } = await load({
      "main.toml": `version = ${version}
[grpc]
address = "/g"
gid = 7
max_recv_message_size = 5
tcp_address = "127.0.0.1:1"
tcp_tls_cert = "/c"
[debug]
address = "/d"
uid = 1
[metrics]
address = "127.0.0.1:2"
grpc_histogram = true
`,
    });
    assert.deepEqual(config.plugins, {
      "io.containerd.server.v1.debug": { address: "/d", uid: 1, gid: 0 },
      "io.containerd.server.v1.grpc": {
        address: "/g",
        uid: 0,
        gid: 7,
        max_recv_message_size: 5,
      },
      "io.containerd.server.v1.grpc-tcp": {
        address: "127.0.0.1:1",
        tls_cert: "/c",
        max_recv_message_size: 5,
      },
      "io.containerd.server.v1.ttrpc": { address: "/g.ttrpc", uid: 0, gid: 7 },
      "io.containerd.metrics.v1.grpc-prometheus": { grpc_histogram: true },
      "io.containerd.server.v1.metrics": { address: "127.0.0.1:2" },
    });
    assert.deepEqual(warnings, [
      `"Configuration migrated from version ${version}, ` +
        'use `containerd config migrate` to avoid migration"',
    ]);
  }
});

test("a section for a listener wins over its old table, and sizes alone move too", async () => {
  const { config } = await load({
    "main.toml": `version = 3
[grpc]
address = "/old"
[plugins."io.containerd.server.v1.grpc"]
address = "/new"
`,
  });
  assert.deepEqual(config.plugins["io.containerd.server.v1.grpc"], { address: "/new" });
  const { config: sizes } = await load({ "main.toml": "version = 3\n[grpc]\nuid = 3\n" });
  assert.deepEqual(sizes.plugins, { "io.containerd.server.v1.grpc": { uid: 3 } });
});

test("short names of version 1, which is also no version, become uris", async () => {
  const { config, warnings } = await load({
    "main.toml": `disabled_plugins = ["cri", "restart"]
required_plugins = ["images-service"]
[plugins.linux]
shim_debug = true
[plugins.odd]
a = 1
`,
  });
  assert.deepEqual(config.disabledPlugins, [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.restart",
  ]);
  assert.deepEqual(config.requiredPlugins, ["io.containerd.service.v1.images-service"]);
  assert.deepEqual(config.plugins, {
    "io.containerd.runtime.v1.linux": { shim_debug: true },
    "io.containerd.grpc.v1.odd": { a: 1 },
  });
  assert.equal(
    warnings[0],
    '"Ambiguous odd plugin in v1 config, treating as io.containerd.grpc.v1.odd"',
  );
});

test("a plugin moves its own keys, a version at a time", async () => {
  const steps: number[] = [];
  const plugin = definePlugin({
    type: pluginType("io.containerd.new.v1"),
    id: "p",
    requires: {},
    config: pluginConfig(v.object({ size: v.number() }), { size: 1 }, (version, sections) => {
      steps.push(version);
      if (version !== 2) return;
      sections["io.containerd.new.v1.p"] = sections["io.containerd.old.v1.p"];
      delete sections["io.containerd.old.v1.p"];
    }),
    init: async () => undefined,
  });
  const files = { "main.toml": 'version = 2\n[plugins."io.containerd.old.v1.p"]\nsize = 5\n' };
  const { config } = await load(files, [plugin]);
  assert.deepEqual(steps, [2, 3]);
  assert.deepEqual(config.plugins, { "io.containerd.new.v1.p": { size: 5 } });
});

test("imports: paths and patterns, relative to their file, in order, each once", async () => {
  const root = (name: string): string => `version = 4\nroot = "/${name}"\n`;
  const { config } = await load({
    "main.toml": `imports = ["conf.d/*.toml", "sub/last.toml", "main.toml"]\n${root("main")}`,
    "conf.d/b.toml": `${root("b")}disabled_plugins = ["b.v1"]\n`,
    "conf.d/a.toml": `${root("a")}disabled_plugins = ["a.v1", "b.v1"]\n`,
    "conf.d/ignored.txt": "not toml at all",
    "sub/last.toml": 'version = 4\nimports = ["more.toml", "../main.toml"]\nstate = "/last"\n',
    "sub/more.toml": root("more"),
  });
  assert.equal(config.root, "/more");
  assert.equal(config.state, "/last");
  assert.deepEqual(config.disabledPlugins, ["a.v1", "b.v1"]);
});

test("an import may be of another version: each file is migrated by itself", async () => {
  const { config } = await load({
    "main.toml": 'version = 2\nimports = ["new.toml"]\n[grpc]\naddress = "/g"\n',
    "new.toml": 'version = 4\n[plugins."io.containerd.server.v1.grpc"]\nuid = 4\n',
  });
  assert.deepEqual(config.plugins["io.containerd.server.v1.grpc"], {
    address: "/g",
    uid: 4,
    gid: 0,
  });
});

test("sections merge table by table, lists inside them replace", async () => {
  const { config } = await load({
    "main.toml": `version = 4
imports = ["more.toml"]
oom_score = 1
[plugins."io.containerd.x.v1.y".runtimes.runc]
names = ["a", "b"]
on = true
[timeouts]
a = "1s"
[stream_processors.one]
path = "/p"
returns = "r"
`,
    "more.toml": `version = 4
oom_score = 0
[plugins."io.containerd.x.v1.y".runtimes.runc]
names = ["c"]
on = false
[plugins."io.containerd.x.v1.y".runtimes.kata]
on = true
[timeouts]
b = "2s"
[stream_processors.one]
path = "/q"
`,
  });
  assert.deepEqual(config.plugins["io.containerd.x.v1.y"], {
    runtimes: { runc: { names: ["c"], on: false }, kata: { on: true } },
  });
  assert.equal(config.oomScore, 1);
  assert.deepEqual(config.timeouts, { a: "1s", b: "2s" });
  assert.deepEqual(config.streamProcessors, {
    ...defaultConfig().streamProcessors,
    one: { accepts: [], returns: "", path: "/q", args: [], env: [] },
  });
});

test("a key that is not known is a warning with its path", async () => {
  const { warnings } = await load({
    "main.toml": `version = 4
plugin_dir = "/p"
[debug]
colour = true
[proxy_plugins.a]
"odd key" = 1
`,
  });
  assert.deepEqual(warnings, [
    '"Ignoring unknown key in TOML" file=DIR/main.toml key=plugin_dir',
    '"Ignoring unknown key in TOML" file=DIR/main.toml key=debug.colour',
    '"Ignoring unknown key in TOML" file=DIR/main.toml key="proxy_plugins.a.\\"odd key\\""',
  ]);
});

test("a syntax error says the file, the row and the column", async () => {
  await refused(
    { "main.toml": 'version = 4\nroot = "/r\n' },
    /^failed to load TOML from DIR\/main\.toml: failed to unmarshal TOML at row 2 column \d+: /,
    "invalid-argument",
  );
});

test("a value of the wrong type names the key, what was expected and what was given", async () => {
  const wrong = (toml: string, message: string): Promise<void> =>
    refused(
      { "main.toml": toml },
      `failed to load TOML from DIR/main.toml: ${message}: invalid argument`,
      "invalid-argument",
    );
  await wrong("root = 5", "key root: expected string, got 5");
  await wrong("oom_score = 1.5", "key oom_score: expected integer, got 1.5");
  await wrong("[grpc]\nuid = 'x'", 'key grpc.uid: expected number, got "x"');
  await wrong("imports = [1]", "key imports.0: expected string, got 1");
  await wrong("disabled_plugins = 'x'", 'key disabled_plugins: expected array, got "x"');
  await wrong("plugins = []", "key plugins: expected table, got an array");
  await wrong('[plugins]\n"a.b" = 1', 'key plugins."a.b": expected table, got 1');
});

test("a version that is too new, and uris that are none, are refused with upstream's words", async () => {
  await refused(
    { "main.toml": "version = 5" },
    "failed to load TOML from DIR/main.toml: " +
      "expected containerd config version equal to or less than `4`, got `5`",
    "invalid-argument",
  );
  await refused(
    { "main.toml": 'version = 2\ndisabled_plugins = ["cri"]' },
    'failed to load TOML from DIR/main.toml: invalid disabled plugin URI "cri" ' +
      "expect io.containerd.x.vx: invalid argument",
    "invalid-argument",
  );
  await refused(
    { "main.toml": 'version = 3\nrequired_plugins = ["x"]' },
    /invalid required plugin URI "x" expect/,
    "invalid-argument",
  );
});

test("a file that is missing is an error, also when imported by name", async () => {
  await refused({}, "open DIR/main.toml: no such file or directory: not found", "not-found");
  await refused(
    { "main.toml": 'version = 4\nimports = ["none.toml", "none/*.toml"]' },
    "open DIR/none.toml: no such file or directory: not found",
    "not-found",
  );
});

test("what is no file of a sane size is refused, not read for ever", async () => {
  await refused(
    { "main.toml": 'version = 4\nimports = ["/dev/zero"]' },
    "open /dev/zero: more than 16777216 bytes",
    "resource-exhausted",
  );
  await refused(
    { "main.toml": 'version = 4\nimports = ["/dev"]' },
    "read /dev: is a directory",
    "invalid-argument",
  );
});

test("formatConfig() prints all of it, and reads back unchanged", async () => {
  const plugin = definePlugin({
    type: pluginType("io.containerd.a.v1"),
    id: "p",
    requires: {},
    timeouts: { "io.containerd.timeout.x": 2000, "io.containerd.timeout.y": 60_000 },
    config: pluginConfig(v.object({ size: v.number(), names: v.array(v.string()) }), {
      size: 1,
      names: ["n"],
    }),
    init: async () => undefined,
  });
  const { config } = await load({
    "main.toml": `version = 4
[plugins."io.containerd.a.v1.p"]
unknown = 1
size = 2
[plugins."io.containerd.gone.v1.q"]
kept = true
[timeouts]
"io.containerd.timeout.x" = "7s"
`,
  });
  const printed = formatConfig(config, [plugin]);
  assert.equal(
    printed,
    `version = 4
root = '/var/lib/containerd'
state = '/run/containerd'
temp = ''
disabled_plugins = []
required_plugins = []
oom_score = 0
imports = ['/etc/containerd/conf.d/*.toml']

[debug]
  level = ''
  format = ''
  log_trace_id = false

[plugins]
  [plugins.'io.containerd.a.v1.p']
    size = 2
    names = ['n']

  [plugins.'io.containerd.gone.v1.q']
    kept = true

[cgroup]
  path = ''

[timeouts]
  'io.containerd.timeout.x' = '7s'
  'io.containerd.timeout.y' = '1m0s'

[stream_processors]
  [stream_processors.'io.containerd.ocicrypt.decoder.v1.tar']
    accepts = ['application/vnd.oci.image.layer.v1.tar+encrypted']
    returns = 'application/vnd.oci.image.layer.v1.tar'
    path = 'ctd-decoder'
    args = ['--decryption-keys-path', '/etc/containerd/ocicrypt/keys']
    env = ['OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf']

  [stream_processors.'io.containerd.ocicrypt.decoder.v1.tar.gzip']
    accepts = ['application/vnd.oci.image.layer.v1.tar+gzip+encrypted']
    returns = 'application/vnd.oci.image.layer.v1.tar+gzip'
    path = 'ctd-decoder'
    args = ['--decryption-keys-path', '/etc/containerd/ocicrypt/keys']
    env = ['OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf']
`,
  );
  const again = await load({ "main.toml": printed.replace(/^imports.*$/m, "imports = []") });
  assert.equal(formatConfig(again.config, [plugin]), printed);
  assert.deepEqual(again.warnings, []);
});
