import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { buildImage, buildIndex, hostPlatform, type Image } from "#test/support/images.ts";
import { sendBytes, startFaultRegistry } from "#test/support/registry/fault-registry.ts";
import { startFaultServer } from "#test/support/registry/fault-server.ts";
import { roomTest } from "#test/support/room.ts";
import { tar } from "#test/support/tar.ts";
import { serve, sid, startCtr2 } from "./ctr2.ts";
import { configOf, inToto, ociTypes, Parts, rootWith, zstdChunked } from "./kinds.ts";

// What lies in registries beside plain images, pulled by Go's `ctr` 2.x. Proved on Go's own daemon:
// CONTAINERD_TEST_DAEMON=go.

roomTest(
  "a zstd:chunked layer is a zstd layer whose table of contents is passed over",
  async (room) => {
    const { ok, ctr } = await startCtr2(room);
    const parts = new Parts();
    const archive = rootWith("in chunks\n");
    const { bytes, annotations } = zstdChunked(archive);
    const layers = [parts.add(`${ociTypes.layer}+zstd`, bytes, { annotations })];
    const config = parts.add(ociTypes.config, configOf([archive], hostPlatform));
    const target = parts.document(ociTypes.manifest, { config, layers });
    const registry = await serve(room, parts.image(target));
    const ref = `${registry.host}/image:1`;
    await ok(["i", "pull", "--plain-http", ref]);
    const ran = await ctr(["run", "--rm", ref, "c1", "cat", "/etc/motd"]);
    assert.deepEqual([ran.stdout, ran.code], ["in chunks\n", 0]);
    assert.ok((await ok(["content", "ls", "-q"])).includes(layers[0]?.digest ?? "none"));
  },
  sid,
);

roomTest(
  "an image whose parts are known by sha512 is stored by that, unpacked, exported and imported",
  async (room) => {
    const { ok, ctr, daemon } = await startCtr2(room);
    const parts = new Parts();
    const [base, top] = [rootWith("below\n"), tar([{ path: "etc/motd", content: "by sha512\n" }])];
    const layers = [
      parts.addSha512(ociTypes.layer, base),
      parts.addSha512(`${ociTypes.layer}+gzip`, gzipSync(top)),
    ];
    const config = parts.addSha512(ociTypes.config, configOf([base, top], hostPlatform));
    const target = parts.document(ociTypes.manifest, { config, layers });
    const registry = await serve(room, parts.image(target));
    const ref = `${registry.host}/image:1`;
    const out = join(room.dir, "out.tar");
    await ok(["i", "pull", "--plain-http", ref]);
    const run = ["run", "--rm", ref, "c1", "cat", "/etc/motd"];
    const ran = await ctr(run);
    assert.deepEqual([ran.stdout, ran.code], ["by sha512\n", 0]);
    await ok(["i", "export", out, ref]);
    // Upstream imports everything by sha256, and so not what this image names.
    if (daemon.kind === "go") return;
    await ok(["i", "rm", "--sync", ref]);
    assert.equal(await ok(["content", "ls", "-q"]), "");
    await ok(["i", "import", out]);
    const again = await ctr(run);
    assert.deepEqual([again.stdout, again.code], ["by sha512\n", 0]);
    const archive = await readFile(out);
    archive.write("BY", archive.indexOf("below"));
    await writeFile(out, archive);
    assert.match((await ctr(["i", "import", out])).stderr, /failed to ingest .*sha512/);
  },
  sid,
);

/** An image, and beside it what a builder says of it: for no platform at all. */
function attested(image: Image): { index: Image; attestation: string; statement: string } {
  const parts = new Parts();
  for (const [digest, bytes] of image.blobs) parts.blobs.set(digest, bytes);
  const statement = JSON.stringify({ _type: "https://in-toto.io/Statement/v0.1", subject: [] });
  const platform = { os: "unknown", architecture: "unknown" };
  const layer = parts.add(inToto, statement, {
    annotations: { "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" },
  });
  const config = parts.add(ociTypes.config, configOf([Buffer.from(statement)], platform));
  const annotations = {
    "vnd.docker.reference.type": "attestation-manifest",
    "vnd.docker.reference.digest": image.target.digest,
  };
  const attestation = parts.document(
    ociTypes.manifest,
    { config, layers: [layer] },
    { annotations, platform },
  );
  const manifests = [{ ...image.target, platform: hostPlatform }, attestation];
  const index = parts.image(parts.document(ociTypes.index, { manifests }));
  return { index, attestation: attestation.digest, statement: layer.digest };
}

roomTest(
  "attestations are no platform: left alone, or with --all-platforms stored and not unpacked",
  async (room) => {
    const { ok } = await startCtr2(room);
    const image = buildImage({ layers: [[{ path: "a", content: "a" }]] });
    const { index, attestation, statement } = attested(image);
    const registry = await serve(room, index);
    const ref = `${registry.host}/image:1`;
    const host = `linux/${hostPlatform.architecture}`;
    await ok(["i", "pull", "--plain-http", "--skip-metadata", ref]);
    const some = await ok(["content", "ls", "-q"]);
    assert.ok(some.includes(image.target.digest));
    assert.ok(!some.includes(attestation) && !some.includes(statement));
    const snapshots = await ok(["snapshots", "ls"]);
    await ok(["i", "pull", "--plain-http", "--all-platforms", ref]);
    const all = await ok(["content", "ls", "-q"]);
    assert.ok(all.includes(attestation) && all.includes(statement));
    assert.equal(await ok(["snapshots", "ls"]), snapshots);
    const listed = await ok(["i", "ls"]);
    assert.match(listed, new RegExp(`/image:1 .* ${host} `), listed);
    await ok(["i", "export", "--all-platforms", `${room.dir}/out.tar`, ref]);
    await ok(["i", "rm", "--sync", ref]);
    await ok(["i", "import", "--all-platforms", `${room.dir}/out.tar`]);
    assert.ok((await ok(["content", "ls", "-q"])).includes(statement));
  },
  sid,
);

roomTest(
  "an artifact is stored and not unpacked",
  async (room) => {
    const { ok } = await startCtr2(room);
    const parts = new Parts();
    const config = parts.add("application/vnd.oci.empty.v1+json", "{}");
    const layers = [parts.add("application/x.chart", "a chart")];
    const artifactType = "application/x.chart";
    const target = parts.document(ociTypes.manifest, { artifactType, config, layers });
    const registry = await serve(room, parts.image(target));
    const ref = `${registry.host}/image:1`;
    await ok(["i", "pull", "--plain-http", ref]);
    const stored = (await ok(["content", "ls", "-q"])).trim().split("\n");
    assert.deepEqual(stored.sort(), [...parts.blobs.keys()].sort());
    assert.ok(!(await ok(["snapshots", "ls"])).includes("Committed"));
    assert.ok((await ok(["content", "get", layers[0]?.digest ?? ""])) === "a chart");
  },
  sid,
);

roomTest(
  "a layer that may not be passed on comes from where its URLs say, and else from the registry",
  async (room) => {
    const { ok, ctr } = await startCtr2(room);
    const archive = rootWith("of somebody else\n");
    await using elsewhere = await startFaultServer((exchange) => {
      if (exchange.url.pathname === "/layer") return sendBytes(exchange, archive);
      exchange.request.resume();
      exchange.response.writeHead(404).end();
    });
    await using registry = await startFaultRegistry();
    const parts = new Parts();
    const urls = ["gopher://x/layer", `${elsewhere.origin}/none`, `${elsewhere.origin}/layer`];
    const type = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    const config = parts.add(ociTypes.config, configOf([archive], hostPlatform));
    registry.addBlob(parts.blobs.get(config.digest) ?? Buffer.alloc(0));
    const layer = parts.add(type, archive, { urls });
    registry.addManifest("image", { mediaType: ociTypes.manifest, config, layers: [layer] }, "1");
    const ref = `${registry.host}/image:1`;
    await ok(["i", "pull", "--plain-http", ref]);
    const ran = await ctr(["run", "--rm", ref, "c1", "cat", "/etc/motd"]);
    assert.deepEqual([ran.stdout, ran.code], ["of somebody else\n", 0]);
    assert.deepEqual(elsewhere.lines(), ["GET /none 404", "GET /layer 200"]);
    await ok(["i", "rm", "--sync", ref]);
    // Nobody has it any more, then the registry itself.
    elsewhere.rule({ match: /./, answer: ({ response }) => void response.writeHead(404).end() });
    const missing = await ctr(["i", "pull", "--plain-http", ref]);
    assert.equal(missing.code, 1);
    assert.match(
      missing.stderr,
      /could not fetch content descriptor .*nondistributable.*not found/,
    );
    registry.addBlob(archive);
    await ok(["i", "pull", "--plain-http", ref]);
    const [whole, without] = [join(room.dir, "whole.tar"), join(room.dir, "without.tar")];
    await ok(["i", "export", whole, ref]);
    await ok(["i", "export", "--skip-non-distributable", without, ref]);
    assert.ok((await readFile(whole)).includes("of somebody else"));
    assert.ok(!(await readFile(without)).includes("of somebody else"));
  },
  sid,
);

const variants = ["v5", "v6", "v7"];

roomTest(
  "of several variants the one that is asked for is pulled, or none",
  async (room) => {
    const { ok, ctr } = await startCtr2(room);
    const imageFor = (platform: { os: string; architecture: string; variant?: string }) => ({
      image: buildImage({ layers: [[{ path: "v", content: JSON.stringify(platform) }]], platform }),
      platform,
    });
    const arm = variants.map((variant) => imageFor({ os: "linux", architecture: "arm", variant }));
    const arm64 = [undefined, "v8.2"].map((variant) =>
      imageFor({ os: "linux", architecture: "arm64", ...(variant && { variant }) }),
    );
    const amd64 = ["v2", "v3"].map((variant) =>
      imageFor({ os: "linux", architecture: "amd64", variant }),
    );
    const all = [...amd64, ...arm, ...arm64];
    const registry = await serve(room, buildIndex(all));
    const ref = `${registry.host}/image:1`;
    for (const [asked, wanted] of [
      ["linux/arm/v6", arm[1]],
      ["linux/arm", arm[2]],
      ["linux/armhf", arm[2]],
      ["linux/armel", arm[1]],
      ["linux/arm64", arm64[0]],
      ["linux/arm64/v8", arm64[0]],
      ["linux/aarch64", arm64[0]],
      ["linux/amd64/v3", amd64[1]],
      ["linux/amd64", undefined],
      ["linux/arm/v4", undefined],
    ] as const) {
      const pulled = await ctr([
        "i",
        "pull",
        "--plain-http",
        "--skip-metadata",
        "--platform",
        asked,
        ref,
      ]);
      const stored = await ok(["content", "ls", "-q"]);
      const found = all.filter(({ image }) => stored.includes(image.target.digest));
      assert.deepEqual(found, wanted ? [wanted] : [], `${asked}: ${pulled.stderr}`);
      if ((await ok(["i", "ls", "-q"])).trim() !== "") await ok(["i", "rm", "--sync", ref]);
    }
  },
  sid,
);

roomTest(
  "a configuration that old versions of Docker pushed as no type is one",
  async (room) => {
    const { ok, ctr, daemon } = await startCtr2(room);
    const parts = new Parts();
    const archive = rootWith("of old\n");
    const layers = [parts.add("application/vnd.docker.image.rootfs.diff.tar", archive)];
    const config = parts.add("application/octet-stream", configOf([archive], hostPlatform));
    const type = "application/vnd.docker.distribution.manifest.v2+json";
    const target = parts.document(type, { config, layers });
    const registry = await serve(room, parts.image(target));
    const ref = `${registry.host}/image:1`;
    await ok(["i", "pull", "--plain-http", ref]);
    // Upstream's bytes, and so its digest.
    const digest = /manifest\.v2\+json (sha256:\w{64})/.exec(await ok(["i", "ls"]))?.[1] ?? "";
    const typed = { ...config, mediaType: "application/vnd.docker.container.image.v1+json" };
    const document = { schemaVersion: 2, mediaType: type, config: typed, layers };
    assert.equal(await ok(["content", "get", digest]), JSON.stringify(document, undefined, 3));
    // Upstream's daemon knows it for a configuration only after it has unpacked nothing.
    if (daemon.kind === "go") return;
    const ran = await ctr(["run", "--rm", ref, "c1", "cat", "/etc/motd"]);
    assert.deepEqual([ran.stdout, ran.code], ["of old\n", 0]);
  },
  sid,
);
