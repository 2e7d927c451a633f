import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { buildImage, type Descriptor, hostPlatform, type Image } from "#test/support/images.ts";
import {
  type FaultRegistry,
  sendBytes,
  startFaultRegistry,
} from "#test/support/registry/fault-registry.ts";
import { type Answer, status } from "#test/support/registry/fault-server.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { ociTypes, Parts } from "./kinds.ts";
import { storeObject } from "./local-transfer.ts";

// What `[plugins."io.containerd.transfer.v1.local"]` decides, as a registry and a client see it.

const layerCount = 5;

function imageOf(layerBytes = 20_000): Image {
  const layers = Array.from({ length: layerCount }, (_, i) => [
    { path: `f${i}`, content: randomBytes(layerBytes) },
  ]);
  return buildImage({ layers });
}

interface Setup {
  readonly ctx: Context;
  readonly daemon: Daemon;
  readonly registry: FaultRegistry;
  readonly reference: string;
  readonly pull: () => Promise<void>;
  readonly push: (reference: string) => Promise<void>;
}

async function setUp(room: Room, image: Image, settings: string): Promise<Setup> {
  const config = `[plugins."io.containerd.transfer.v1.local"]\n${settings}\n`;
  const daemon = await startDaemon(room, { kind: "ours", config });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const transferrer = new GrpcTransferrer(transport);
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const registry = room.resources.use(await startFaultRegistry());
  for (const bytes of image.blobs.values()) registry.addBlob(bytes);
  const manifest = JSON.parse(String(image.blobs.get(image.target.digest))) as object; // -- built by this test
  registry.addManifest("image", manifest, "1");
  const none = { headers: {}, hostDir: "", credentials: undefined, defaultScheme: "http" };
  const at = (reference: string): RegistryObject => ({ kind: "registry", reference, ...none });
  const reference = `${registry.host}/image:1`;
  const unpacks = [{ platform: hostPlatform, snapshotter: "" }];
  const store = storeObject({ name: reference, platforms: [hostPlatform], unpacks });
  return {
    ctx,
    daemon,
    registry,
    reference,
    pull: () => transferrer.transfer(ctx, at(reference), store),
    push: (to) => transferrer.transfer(ctx, storeObject({ name: reference }), at(to)),
  };
}

/** Holds requests up until as many are there as should be at once, and a little longer: none may come beyond them. */
class Crowd {
  most = 0;
  #here = 0;
  readonly #expected: number;
  readonly #full = Promise.withResolvers<void>();

  constructor(expected: number) {
    this.#expected = expected;
  }

  through(answer: Answer): Answer {
    return async (exchange) => {
      this.most = Math.max(this.most, ++this.#here);
      exchange.response.once("close", () => void this.#here--);
      if (this.#here === this.#expected) {
        await pause(100);
        this.#full.resolve();
      }
      await this.#full.promise;
      await answer(exchange);
    };
  }
}

for (const atOnce of [1, 3]) {
  roomTest(`no more than ${atOnce} blobs are downloaded at once`, async (room) => {
    const settings = `  max_concurrent_downloads = ${atOnce}`;
    const { registry, pull } = await setUp(room, imageOf(), settings);
    const crowd = new Crowd(atOnce);
    const serve: Answer = (exchange) => {
      const digest = exchange.url.pathname.split("/").at(-1) ?? "";
      sendBytes(exchange, registry.blobs.get(digest) ?? Buffer.alloc(0));
    };
    // The configuration comes alone, before any layer.
    registry.rule({ match: /GET .*\/blobs\//, answer: crowd.through(serve) });
    registry.rule({ match: /GET .*\/blobs\//, times: 1, answer: serve });
    await pull();
    assert.equal(crowd.most, atOnce);
  });

  roomTest(`no more than ${atOnce} blobs are uploaded at once`, async (room) => {
    const settings = `  max_concurrent_uploaded_layers = ${atOnce}`;
    const { registry, pull, push } = await setUp(room, imageOf(), settings);
    await pull();
    registry.blobs.clear();
    const crowd = new Crowd(atOnce);
    // Before the upload itself begins, a blob is asked for.
    registry.rule({ match: /HEAD .*\/blobs\//, answer: crowd.through(status(404)) });
    await push(`${registry.host}/pushed:1`);
    assert.equal(crowd.most, atOnce);
    assert.equal(registry.blobs.size, layerCount + 1);
  });
}

roomTest("large layers come by ranges at once where a buffer is given", async (room) => {
  const settings = "  concurrent_layer_fetch_buffer = 65536\n  max_concurrent_downloads = 2";
  const { registry, pull, daemon } = await setUp(room, imageOf(200_000), settings);
  await pull();
  const ranges = registry.requests.map(({ headers }) => headers.range).filter(Boolean);
  for (const range of ["bytes=0-65535", "bytes=65536-131071", "bytes=131072-196607"]) {
    assert.equal(ranges.filter((one) => one === range).length, layerCount, range);
  }
  assert.equal((await daemon.ctrOk(["snapshots", "ls"])).match(/Committed/g)?.length, layerCount);
});

roomTest("images are unpacked where the configuration says, others are refused", async (room) => {
  const entry = '[[plugins."io.containerd.transfer.v1.local".unpack_config]]';
  const host = `${hostPlatform.os}/${hostPlatform.architecture}`;
  const unpack = [
    entry,
    '  platform = "linux/s390x"',
    '  snapshotter = "overlayfs"',
    '  differ = "walking"',
    entry,
    `  platform = "${host}"`,
    '  snapshotter = "native"',
  ].join("\n");
  const strict = `  check_platform_supported = true\n${unpack}`;
  const { pull, daemon } = await setUp(room, imageOf(), strict);
  await pull();
  const native = await daemon.ctrOk(["snapshots", "--snapshotter", "native", "ls"]);
  assert.equal(native.match(/Committed/g)?.length, layerCount);
  assert.doesNotMatch(await daemon.ctrOk(["snapshots", "ls"]), /Committed/);
});

roomTest("nothing is unpacked where there is nothing to unpack to", async (room) => {
  const { pull } = await setUp(room, imageOf(), "  unpack_config = []");
  await assert.rejects(pull(), {
    code: "invalid-argument",
    message: /unable to initialize unpacker: no unpack platforms defined/,
  });
});

roomTest(
  "what refers to an image is pulled with it, from a registry without an API for that",
  async (room) => {
    const image = imageOf();
    const { registry, pull, daemon } = await setUp(room, image, '  referrers = ["*"]');
    const parts = new Parts();
    const { mediaType, digest, size } = image.target;
    const subject: Descriptor = { mediaType, digest, size };
    const artifactType = "application/x.signature";
    const config = parts.add("application/vnd.oci.empty.v1+json", "{}");
    const layers = [parts.add(artifactType, "signed")];
    for (const bytes of parts.blobs.values()) registry.addBlob(bytes);
    const document = { schemaVersion: 2, mediaType: ociTypes.manifest, artifactType };
    const signature = registry.addManifest("image", { ...document, config, layers, subject });
    const manifests = [{ mediaType: ociTypes.manifest, artifactType, ...signature }];
    const tag = digest.replace(":", "-");
    registry.addManifest("image", { mediaType: ociTypes.index, manifests }, tag);
    await pull();
    assert.equal(await daemon.ctrOk(["content", "get", layers[0]?.digest ?? ""]), "signed");
    const [reference] = (await daemon.ctrOk(["i", "ls", "-q"])).trim().split("\n");
    await daemon.ctrOk(["i", "rm", "--sync", reference ?? ""]);
    assert.equal((await daemon.ctrOk(["content", "ls", "-q"])).trim(), "");
  },
);
