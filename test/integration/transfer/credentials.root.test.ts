import assert from "node:assert/strict";
import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import { staticCredentials } from "#core/remotes/credentials.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Output, run } from "#test/support/command.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { helloImage } from "#test/support/images.ts";
import {
  type Registry,
  type RegistryOptions,
  startRegistry,
} from "#test/support/registry/registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { storeObject } from "./local-transfer.ts";

const bin = join(import.meta.dirname, "../../../bin/containerd");

async function hello(room: Room, options: RegistryOptions = {}): Promise<Registry> {
  const served = { repository: "hello", tag: "1", image: helloImage("hi\n") };
  return room.resources.use(await startRegistry([served], options));
}

interface Client {
  readonly daemon: Daemon;
  readonly pull: (reference: string, more?: Partial<RegistryObject>) => Promise<void>;
}

async function start(
  room: Room,
  config: string,
  env: Record<string, string> = {},
): Promise<Client> {
  const level = ["--log-level", "trace"];
  const daemon = await startDaemon(room, { kind: "ours", config, args: level, env });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const transferrer = new GrpcTransferrer(transport);
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  return {
    daemon,
    async pull(reference, more = {}) {
      const none = { headers: {}, hostDir: "", defaultScheme: "", credentials: undefined };
      const from: RegistryObject = { kind: "registry", reference, ...none, ...more };
      await transferrer.transfer(ctx, from, storeObject({ name: reference }));
    },
  };
}

function explain(daemon: Daemon, ref: string, env: Record<string, string> = {}): Promise<Output> {
  const path = "/usr/local/bin:/usr/bin:/bin";
  return run([bin, "--config", daemon.configFile, "hosts", "explain", ref], {
    env: { PATH: path, ...env },
  });
}

const secret = "s3cret-of-the-test";
const section = '[plugins."io.containerd.transfer.v1.local"]';

roomTest(
  "docker's config.json and its helpers give the daemon credentials, re-read each time",
  async (room) => {
    const registry = await hello(room, { user: `me:${secret}` });
    const other = await hello(room, { user: `you:${secret}` });
    const file = join(room.dir, "config.json");
    const config = `${section}\n  docker_config = ${JSON.stringify(file)}\n`;
    const helper = join(room.dir, "docker-credential-test");
    const env = { PATH: `${room.dir}:/usr/bin:/bin` };
    const { daemon, pull } = await start(room, config, env);
    const ref = `${registry.host}/hello:1`;
    const auth = Buffer.from(`me:${secret}`).toString("base64");
    await assert.rejects(pull(ref), { code: "unauthenticated" });
    await writeFile(file, JSON.stringify({ auths: { [registry.host]: { auth } } }));
    await pull(ref);
    // Those of one host go to no other.
    await assert.rejects(pull(`${other.host}/hello:1`), { code: "unauthenticated" });
    const shown = await explain(daemon, ref);
    assert.match(
      shown.stdout,
      new RegExp(`1\\. https://${registry.host}/v2\n(.*\n)* +credentials: +${file}\n`),
    );
    assert.match((await explain(daemon, `${other.host}/hello:1`)).stdout, /credentials: +none\n/);

    await writeFile(file, JSON.stringify({ credHelpers: { [other.host]: "test" } }));
    const answer = JSON.stringify({ Username: "you", Secret: secret });
    await writeFile(
      helper,
      `#!/bin/sh\nread server; [ "$server" = "${other.host}" ] && echo '${answer}'\n`,
    );
    await chmod(helper, 0o755);
    await pull(`${other.host}/hello:1`);
    const byHelper = await explain(daemon, `${other.host}/hello:1`, env);
    assert.match(
      byHelper.stdout,
      new RegExp(`credentials: +credential helper "test" of ${file}\n`),
    );
    await rm(file);
    await assert.rejects(pull(`${other.host}/hello:1`), { code: "unauthenticated" });
    for (const text of [await daemon.log(), shown.stdout, byHelper.stdout]) {
      assert.ok(!text.includes(secret) && !text.includes(auth), text);
    }
  },
);

roomTest("a client's own credentials come before the daemon's", async (room) => {
  const registry = await hello(room, { user: `client:${secret}` });
  const file = join(room.dir, "config.json");
  const auths = { [registry.host]: { username: "daemon", password: "wrong" } };
  await writeFile(file, JSON.stringify({ auths }));
  const config = `${section}\n  docker_config = ${JSON.stringify(file)}\n`;
  const { daemon, pull } = await start(room, config);
  const ref = `${registry.host}/hello:1`;
  const of = (username: string) =>
    staticCredentials(registry.host, { username, secret }, "the test");
  await pull(ref, { credentials: of("client") });
  await assert.rejects(pull(ref, { credentials: of("nobody") }), { code: "unauthenticated" });
  await assert.rejects(pull(ref), { code: "unauthenticated" });
  const headers = { authorization: `Basic ${btoa(`client:${secret}`)}` };
  await pull(ref, { headers });
  const log = await daemon.log();
  assert.ok(!log.includes(secret) && !log.includes(headers.authorization));
});

roomTest(
  "mirrors and passwords of CRI's old configuration hold for transfers too",
  async (room) => {
    const mirror = await hello(room, { user: `cri:${secret}` });
    const registry = '[plugins."io.containerd.grpc.v1.cri".registry';
    const config = [
      `${registry}.mirrors."registry.test"]\n  endpoint = ["http://${mirror.host}"]`,
      `${registry}.configs."${mirror.host}".auth]\n  username = "cri"\n  password = "${secret}"`,
    ].join("\n");
    const { daemon, pull } = await start(room, config);
    await pull("registry.test/hello:1");
    assert.ok(mirror.requests.some((line) => line.includes("?ns=registry.test")));
    const shown = await explain(daemon, "registry.test/hello:1");
    assert.match(
      shown.stdout,
      new RegExp(`^registry.test/hello:1\n1\\. http://${mirror.host}/v2\n`),
    );
    assert.match(
      shown.stdout,
      /credentials: +configs."[^"]+" of the registry of the CRI configuration\n/,
    );
    assert.match(shown.stdout, /\n2\. https:\/\/registry\.test\/v2\n/);
    assert.ok(!(await daemon.log()).includes(secret) && !shown.stdout.includes(secret));
  },
);

roomTest(
  "hosts.toml is read again by each pull; what cannot be understood is told by explain",
  async (room) => {
    const [one, two] = [await hello(room), await hello(room)];
    const certs = join(room.dir, "certs");
    await mkdir(join(certs, "_default"), { recursive: true });
    const file = join(certs, "_default", "hosts.toml");
    const { daemon, pull } = await start(
      room,
      `${section}\n  config_path = ${JSON.stringify(certs)}\n`,
    );
    for (const registry of [one, two]) {
      await writeFile(file, `[host."http://${registry.host}"]\n`);
      await pull("registry.test/hello:1");
      assert.ok(registry.requests.length > 0);
    }
    await writeFile(file, "server = 1\n");
    const refused = `${file}: server: a string is expected, not 1`;
    await assert.rejects(pull("registry.test/hello:1"), { message: new RegExp(refused) });
    const { code, stderr } = await explain(daemon, "registry.test/hello:1");
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(refused));
    const none = await explain(daemon, "no reference");
    assert.deepEqual([none.code, none.stdout], [1, ""]);
  },
);

roomTest(
  "settings of registries that contradict each other stop pulls, not the daemon",
  async (room) => {
    const registry = '[plugins."io.containerd.grpc.v1.cri".registry';
    const config = `${registry}]\n  config_path = "/x"\n${registry}.mirrors."a"]\n  endpoint = ["http://b"]\n`;
    const { daemon, pull } = await start(room, config);
    await assert.rejects(pull("registry.test/hello:1"));
    assert.match(await daemon.log(), /mirrors, configs and auths cannot be set when config_path/);
    const { code, stderr } = await explain(daemon, "registry.test/hello:1");
    assert.deepEqual([code, /cannot be set when config_path/.test(stderr)], [1, true]);
  },
);
