import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  buildImage,
  buildIndex,
  busyboxImage,
  helloImage,
  hostPlatform,
  type Image,
  ociArchive,
} from "#test/support/images.ts";
import { startDockerRegistry } from "#test/support/registry/docker-registry.ts";
import { type FaultRegistry, startFaultRegistry } from "#test/support/registry/fault-registry.ts";
import { type Answer, status } from "#test/support/registry/fault-server.ts";
import { requireToken, startTokenServer } from "#test/support/registry/fault-token-server.ts";
import { roomTest } from "#test/support/room.ts";
import { serve, sid, startCtr2 } from "./ctr2.ts";

// Go's `ctr` 2.x pulls, pushes, imports, exports and tags by the Transfer and Streaming services. Proved on Go's own
// daemon of that version: CONTAINERD_TEST_DAEMON=go.

const otherPlatform = {
  os: "linux",
  architecture: hostPlatform.architecture === "arm64" ? "amd64" : "arm64",
};
const other = `linux/${otherPlatform.architecture}`;
const host = `linux/${hostPlatform.architecture}`;

function forBoth(): { index: Image; here: Image; there: Image } {
  const here = busyboxImage();
  const there = buildImage({ layers: [[{ path: "f", content: "x" }]], platform: otherPlatform });
  const index = buildIndex([
    { image: here, platform: hostPlatform },
    { image: there, platform: otherPlatform },
  ]);
  return { index, here, there };
}

roomTest(
  "ctr 2 pulls one platform or all, with progress, and what it pulled runs",
  async (room) => {
    const { ok, ctr } = await startCtr2(room);
    const { index, here, there } = forBoth();
    const registry = await serve(room, index);
    const ref = `${registry.host}/image:1`;
    const blobs = async (): Promise<string> => ok(["content", "ls", "-q"]);
    const manifestOf = (image: Image): string => image.target.digest;

    const pulled = await ok(["i", "pull", "--plain-http", ref]);
    assert.match(pulled, /application\/vnd\.oci\.image\.index\.v1\+json sha256:[0-9a-f]{64}/);
    assert.match(pulled, /Pulling from OCI Registry \(.*\/image:1\)\s+elapsed: /);
    assert.match(pulled, /\/image:1\s+saved/);
    const ran = await ctr(["run", "--rm", ref, "c1", "cat", "/etc/motd"]);
    assert.deepEqual([ran.stdout, ran.code], ["second layer\n", 0]);
    assert.ok((await blobs()).includes(manifestOf(here)));
    assert.ok(!(await blobs()).includes(layerOf(there)));

    await ok(["i", "pull", "--plain-http", "--platform", other, ref]);
    assert.ok((await blobs()).includes(layerOf(there)));
    await ok(["i", "rm", "--sync", ref]);
    await ok(["i", "pull", "--plain-http", "--all-platforms", ref]);
    for (const image of [here, there]) assert.ok((await blobs()).includes(layerOf(image)));
    assert.match(await ok(["i", "ls"]), new RegExp(`${host.replace("/", ".")}`));

    const missing = await ctr(["i", "pull", "--plain-http", `${registry.host}/image:2`]);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /failed to resolve image.*\/image:2: not found/);
  },
  sid,
);

function layerOf({ roles }: Image): string {
  const found = [...roles].find(([, role]) => role === "layer0")?.[0];
  assert.ok(found !== undefined);
  return found;
}

roomTest(
  "ctr 2 is asked for credentials by a stream",
  async (room) => {
    const { ok, ctr, daemon } = await startCtr2(room);
    const registry = await serve(room, helloImage("hello\n"), "me:s3cret-word");
    const ref = `${registry.host}/image:1`;
    const pull = ["i", "pull", "--plain-http"];
    const anonymous = await ctr([...pull, ref]);
    assert.equal(anonymous.code, 1);
    assert.match(anonymous.stderr, /401 Unauthorized|authorization failed/);
    assert.equal((await ctr([...pull, "--user", "me:wrong", ref])).code, 1);
    await ok([...pull, "--user", "me:s3cret-word", ref]);
    const dumping = await ctr([...pull, "--http-dump", "--user", "me:s3cret-word", ref]);
    assert.equal(dumping.code, 0);
    const dumped = dumping.stderr;
    assert.match(dumped, /HEAD \/v2\/image\/manifests\/1 HTTP\/1\.1/);
    assert.match(dumped, /HTTP\/1\.1 200 OK/);
    await ok([...pull, "--http-trace", "--user", "me:s3cret-word", ref]);
    // Upstream shows what it sends.
    if (daemon.kind === "ours") assert.ok(!dumped.includes(btoa("me:s3cret-word")));
    assert.ok(!(await daemon.log()).includes("s3cret-word"));
  },
  sid,
);

function addImage(registry: FaultRegistry, image: Image): void {
  for (const bytes of image.blobs.values()) registry.addBlob(bytes);
  const manifest = JSON.parse(String(image.blobs.get(image.target.digest))) as object; // -- built by this test
  registry.addManifest("image", manifest, "1");
}

roomTest(
  "ctr 2 has a refresh token exchanged, and hosts looked up in a directory of its own",
  async (room) => {
    const { ok, ctr } = await startCtr2(room);
    await using registry = await startFaultRegistry();
    await using tokens = await startTokenServer({ identityToken: "idt" });
    tokens.answer.field = "access_token";
    addImage(registry, helloImage("hello\n"));
    requireToken(registry, tokens, "repository:image:pull");
    const pull = ["i", "pull", "--plain-http"];
    const ref = `${registry.host}/image:1`;
    assert.equal((await ctr([...pull, "--refresh", "other", ref])).code, 1);
    await ok([...pull, "--refresh", "idt", ref]);
    assert.equal(tokens.seen.at(-1)?.parameters["refresh_token"], "idt");
    await using mirror = await startFaultRegistry();
    addImage(mirror, helloImage("hello\n"));
    const hosts = join(room.dir, "hosts");
    await mkdir(join(hosts, "registry.test"), { recursive: true });
    const file = join(hosts, "registry.test", "hosts.toml");
    await writeFile(file, `server = "http://127.0.0.1:1"\n[host."http://${mirror.host}"]\n`);
    await ok(["i", "pull", "--hosts-dir", hosts, "registry.test/image:1"]);
    assert.match(
      mirror.lines()[0] ?? "",
      /^HEAD \/v2\/image\/manifests\/1\?ns=registry\.test 200$/,
    );
  },
  sid,
);

roomTest(
  "ctr 2 shows what went wrong with a registry, and what may mend it",
  async (room) => {
    const { ctr, daemon } = await startCtr2(room);
    await using registry = await startFaultRegistry();
    const fail = async (ref: string, ...flags: string[]): Promise<string> => {
      const { code, stderr } = await ctr(["i", "pull", ...flags, ref]);
      assert.equal(code, 1, stderr);
      return stderr;
    };
    const plain = (answer: Answer): Promise<string> => {
      registry.rule({ match: /./, answer });
      return fail(`${registry.host}/image:1`, "--plain-http");
    };
    const both: readonly (readonly [string, RegExp])[] = [
      [await plain(status(404)), /failed to resolve image.*\/image:1: not found/],
      [await plain(status(429)), /429 Too Many Requests/],
      [await plain(status(403)), /403 Forbidden/],
      [await fail("registry.invalid/image:1"), /lookup registry\.invalid.*: /],
      [
        await fail("127.0.0.1:1/image:1", "--plain-http"),
        /127\.0\.0\.1:1: connect: connection ref/,
      ],
    ];
    for (const [text, words] of both) assert.match(text, words);
    if (daemon.kind === "go") return;
    assert.match(
      await plain(status(429, { "retry-after": "3600" })),
      /rate limited: try again in 3600 s/,
    );
    assert.match(
      await plain(status(401, { "www-authenticate": 'Basic realm="r"' })),
      /pull access denied, repository does not exist or may require authorization/,
    );
    const errors = [{ code: "DENIED", message: "ask the owner of it" }];
    assert.match(
      await plain(status(403, {}, JSON.stringify({ errors }))),
      /403 Forbidden: denied: ask the owner of it/,
    );
    assert.match(
      await plain(status(400, {}, "Client sent an HTTP request to an HTTPS server.\n")),
      /the server wants TLS \(say "https:\/\//,
    );
  },
  sid,
);

roomTest(
  "ctr 2 has lookups and connections traced in the daemon's log",
  async (room) => {
    const { ok, daemon } = await startCtr2(room, { args: ["--log-level", "debug"] });
    const registry = await serve(room, helloImage("hello\n"));
    const port = registry.host.split(":")[1];
    const pull = ["i", "pull", "--plain-http"];
    await ok([...pull, `localhost:${port}/image:1`]);
    assert.doesNotMatch(await daemon.log(), /DNS lookup|Connection successful/);
    await ok([...pull, "--http-trace", `localhost:${port}/image:1`]);
    const log = await daemon.log();
    assert.match(log, /level=debug msg="DNS lookup" .*host=localhost/);
    assert.match(log, /msg="DNS lookup complete" .*result="?(127\.0\.0\.1|::1)/);
    const connected = `msg="Connection successful" .*remote_addr="127.0.0.1:${port}" .*reused=false`;
    assert.match(log, new RegExp(connected));
  },
  sid,
);

roomTest(
  "ctr 2 pushes what it has, and it comes back the same",
  async (room) => {
    const { ok, ctr } = await startCtr2(room);
    const registry = await startDockerRegistry(room);
    const { index, here } = forBoth();
    const archive = join(room.dir, "in.tar");
    await writeFile(archive, ociArchive(index, "registry.test/image:1"));
    await ok(["i", "import", "--all-platforms", archive]);
    const pushed = await ok([
      "i",
      "push",
      "--plain-http",
      `${registry.host}/a/b:1`,
      "registry.test/image:1",
    ]);
    assert.match(pushed, /registry\.test\/image:1\s+pushed content/);
    await ok(["i", "pull", "--plain-http", "--all-platforms", `${registry.host}/a/b:1`]);
    assert.match(await ok(["i", "ls"]), new RegExp(`/a/b:1 .*${index.target.digest}`));
    await ok(["i", "tag", "registry.test/image:1", `${registry.host}/one:1`]);
    // This registry takes no index of what it does not have.
    const part = await ctr([
      "i",
      "push",
      "--plain-http",
      "--platform",
      host,
      `${registry.host}/one:1`,
    ]);
    assert.equal(part.code, 1);
    assert.match(part.stderr, /references to blobs and\/or manifests are missing in your target/);
    const none = await ctr(["i", "push", "--plain-http", `${registry.host}/x:1`, "none.test/x:1"]);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /not found/);
    await ok(["i", "rm", "--sync", `${registry.host}/one:1`, "registry.test/image:1"]);
    await ok(["i", "pull", "--plain-http", `${registry.host}/one@${here.target.digest}`]);
  },
  sid,
);

roomTest(
  "ctr 2 imports and exports several images, by file and by pipe, to the byte",
  async (room) => {
    const { ok, ctr, names, daemon } = await startCtr2(room);
    const big = buildImage({ layers: [[{ path: "big", content: noise(12_000_000) }]] });
    const archives = [ociArchive(big, "a.test/big:1"), ociArchive(helloImage("h\n"), "a.test/h:1")];
    for (const archive of archives) await ok(["i", "import", "-"], { stdin: archive });
    assert.deepEqual(await names(), ["a.test/big:1", "a.test/h:1"]);
    const out = join(room.dir, "out.tar");
    await ok(["i", "export", out, "a.test/big:1", "a.test/h:1"]);
    await ok(["i", "rm", "--sync", "a.test/big:1", "a.test/h:1"]);
    const imported = await ok(["i", "import", out]);
    assert.match(imported, /a\.test\/big:1\s+saved/);
    assert.deepEqual(await names(), ["a.test/big:1", "a.test/h:1"]);
    const again = join(room.dir, "again.tar");
    await ok(["i", "export", again, "a.test/big:1", "a.test/h:1"]);
    // Upstream writes what it likes first.
    if (daemon.kind === "ours") assert.ok((await readFile(out)).equals(await readFile(again)));
    const ran = await ctr(["run", "--rm", "a.test/h:1", "c1"]);
    assert.deepEqual([ran.stdout, ran.code], ["h\n", 0]);
    for (const stdin of ["", "no archive at all"]) {
      assert.equal((await ctr(["i", "import", "-"], { stdin })).code, 1);
    }
    assert.equal((await ctr(["i", "export", out, "a.test/none:1"])).code, 1);
  },
  sid,
);

function noise(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  let state = 1;
  for (let at = 0; at < bytes; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    buffer.writeUInt32LE(state, at);
  }
  return buffer;
}

roomTest(
  "ctr 2 names what it imports as it is told",
  async (room) => {
    const { ok, names, daemon } = await startCtr2(room);
    const image = helloImage("h\n");
    const { digest } = image.target;
    const tagged = ociArchive(image, "a.test/h:1");
    // It means the opposite of what the flag says (ctr 2.1 to 2.4), and the daemon does what it is asked for.
    const skipped = ["--digests", "--skip-digest-for-named", "--base-name", "a.test/h"];
    await ok(["i", "import", ...skipped, "-"], { stdin: tagged });
    const found = await names();
    for (const name of ["a.test/h:1", `a.test/h@${digest}`]) assert.ok(found.includes(name), name);
    // The index of the archive has a digest too, which 2.4 stores and 2.1 does not.
    const isOlder = daemon.kind === "go" && found.length === 2;
    assert.ok(isOlder || found.length === 3, found.join("\n"));
    await ok(["i", "rm", "--sync", ...found]);
    await ok(["i", "import", "--digests", "--base-name", "a.test/h", "-"], { stdin: tagged });
    const skipping = (await names()).filter(
      (name) => name === "a.test/h:1" || name.endsWith(digest),
    );
    assert.deepEqual(skipping, ["a.test/h:1"]);
    await ok(["i", "rm", "--sync", ...(await names())]);
    await ok(["i", "import", "-"], { stdin: tagged });
    await ok(["i", "import", "--no-unpack", "--index-name", "a.test/index:1", "-"], {
      stdin: tagged,
    });
    assert.deepEqual(await names(), ["a.test/h:1", "a.test/index:1"]);
  },
  sid,
);

roomTest(
  "ctr 2 tags, and takes a name over only when forced",
  async (room) => {
    const { ok, ctr, names } = await startCtr2(room);
    const archive = ociArchive(helloImage("h\n"), "a.test/h:1");
    await ok(["i", "import", "-"], { stdin: archive });
    assert.equal(
      (await ok(["i", "tag", "a.test/h:1", "a.test/h:2", "b.test/h:2"])).trim(),
      "a.test/h:2\nb.test/h:2",
    );
    assert.deepEqual(await names(), ["a.test/h:1", "a.test/h:2", "b.test/h:2"]);
    assert.equal((await ctr(["i", "tag", "a.test/none:1", "a.test/x:1"])).code, 1);
    await ok(["i", "tag", "--force", "a.test/h:1", "a.test/h:2"]);
  },
  sid,
);
