import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { Progress, RegistryObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { buildImage, digestOf, hostPlatform, type Image } from "#test/support/images.ts";
import { until } from "#test/support/processes.ts";
import { type FaultRegistry, startFaultRegistry } from "#test/support/registry/fault-registry.ts";
import type { Answer } from "#test/support/registry/fault-server.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { storeObject } from "./local-transfer.ts";

const unpacks = [{ platform: hostPlatform, snapshotter: "" }];
const pieceBytes = 64 << 10;

/** Layers of one small file and one of a megabyte that nothing makes smaller. */
function imageOf(count: number): Image {
  const layers = Array.from({ length: count }, (_, i) => [
    { path: `first${i}`, content: `${i}` },
    { path: `large${i}`, content: randomBytes(1 << 20) },
  ]);
  return buildImage({ layers });
}

const layerOf = ({ roles }: Image, index: number): string =>
  [...roles].find(([, role]) => role === `layer${index}`)?.[0] ?? "";

function addImage(registry: FaultRegistry, image: Image, repository: string): void {
  for (const bytes of image.blobs.values()) registry.addBlob(bytes);
  const manifest = JSON.parse(String(image.blobs.get(image.target.digest))) as object; // -- built by this test
  assert.equal(registry.addManifest(repository, manifest, "1").digest, image.target.digest);
}

interface Setup {
  readonly ctx: Context;
  readonly daemon: Daemon;
  readonly registry: FaultRegistry;
  readonly steps: Progress[];
  readonly pull: (repository?: string) => Promise<void>;
  /** Paths below the snapshots' directories. */
  readonly files: () => Promise<readonly string[]>;
}

async function setUp(room: Room, image: Image, unpacksMax?: number): Promise<Setup> {
  const table = '[plugins."io.containerd.transfer.v1.local"]';
  const config =
    unpacksMax === undefined ? "" : `${table}\n  max_concurrent_unpacks = ${unpacksMax}\n`;
  const daemon = await startDaemon(room, { kind: "ours", config });
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const registry = room.resources.use(await startFaultRegistry());
  addImage(registry, image, "image");
  const steps: Progress[] = [];
  return {
    ctx,
    daemon,
    registry,
    steps,
    pull: async (repository = "image") => {
      const reference = `${registry.host}/${repository}:1`;
      const none = { headers: {}, hostDir: "", credentials: undefined };
      const source: RegistryObject = {
        kind: "registry",
        reference,
        ...none,
        defaultScheme: "http",
      };
      const store = storeObject({ name: reference, platforms: [hostPlatform], unpacks });
      await using transport = new GrpcTransport({ path: daemon.address });
      const progress = (step: Progress): void => void steps.push(step);
      await new GrpcTransferrer(transport).transfer(ctx, source, store, { progress });
    },
    files: async () => {
      const dir = join(daemon.root, "io.containerd.snapshotter.v1.overlayfs/snapshots");
      return readdir(dir, { recursive: true });
    },
  };
}

/** Answers with the first half, and the rest when it may. A range is answered from where it begins. */
function inHalves(bytes: Buffer, rest: Promise<void>): Answer {
  return async ({ response }) => {
    response.writeHead(200, { "content-length": bytes.length });
    const half = bytes.length >> 1;
    for (let at = 0; at < half; at += pieceBytes) {
      response.write(bytes.subarray(at, Math.min(at + pieceBytes, half)));
    }
    await rest;
    response.end(bytes.subarray(half));
  };
}

for (const unpacksMax of [1, 3]) {
  roomTest(`files of a layer are written while it comes, ${unpacksMax} at once`, async (room) => {
    const image = imageOf(2);
    const { registry, pull, files, steps, daemon } = await setUp(room, image, unpacksMax);
    const digest = layerOf(image, 0);
    const rest = Promise.withResolvers<void>();
    const bytes = registry.blobs.get(digest) ?? Buffer.alloc(0);
    registry.rule({
      match: new RegExp(`GET .*/blobs/${digest}`),
      answer: inHalves(bytes, rest.promise),
    });
    const pulled = pull();
    // Awaited below: where something fails before that, it is what is told.
    pulled.catch(() => undefined);
    await until("the first file is there", async () =>
      (await files()).some((path) => path.endsWith("/fs/first0")),
    );
    // The other layer may have come and been unpacked already.
    const told = (): string[] =>
      steps.filter(({ name }) => name === `layer-${digest}`).map(({ event }) => event);
    assert.ok(!told().includes("extracted"));
    rest.resolve();
    await pulled;
    assert.deepEqual(
      told().filter((event) => event !== "downloading"),
      ["waiting", "complete", "extracting", "extracted"],
    );
    assert.match(await daemon.ctrOk(["snapshots", "ls"]), /Committed[^]*Committed/);
  });

  for (const [what, forge, message] of [
    ["another digest", (bytes: Buffer) => flipped(bytes), /unexpected commit digest/],
    ["bytes after its end", (bytes: Buffer) => Buffer.concat([bytes, bytes]), /past expected size/],
  ] as const) {
    roomTest(`a layer with ${what} leaves nothing of it, ${unpacksMax} at once`, async (room) => {
      const image = imageOf(2);
      const { registry, pull, files, daemon } = await setUp(room, image, unpacksMax);
      const digest = layerOf(image, 1);
      const good = registry.blobs.get(digest) ?? Buffer.alloc(0);
      const bad = forge(good);
      // Without a length, so that nothing but the bytes tells.
      registry.rule({
        match: new RegExp(`GET .*/blobs/${digest}`),
        times: 1,
        answer: ({ response }) => void response.writeHead(200).end(bad),
      });
      await assert.rejects(pull(), message);
      await until("the snapshot is gone", async () => {
        return !(await files()).some((path) => path.endsWith("/first1"));
      });
      assert.ok(!(await daemon.ctrOk(["snapshots", "ls"])).includes("extract-"));
      assert.ok(!(await daemon.ctrOk(["content", "ls", "-q"])).includes(digest));
      if (what === "another digest") {
        assert.ok(!(await daemon.ctrOk(["content", "active"])).includes(digest));
      }
      await pull();
      assert.ok((await daemon.ctrOk(["content", "ls", "-q"])).includes(digest));
    });
  }
}

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy[copy.length - 1] = (copy[copy.length - 1] ?? 0) ^ 1;
  return copy;
}

roomTest("a pull whose daemon was killed fetches only what is not on the disk", async (room) => {
  const image = imageOf(3);
  const { registry, pull, daemon, ctx } = await setUp(room, image);
  const cut = layerOf(image, 1);
  const bytes = registry.blobs.get(cut) ?? Buffer.alloc(0);
  const never = Promise.withResolvers<void>();
  const match = new RegExp(`GET .*/blobs/${cut}`);
  registry.rule({ match, times: 1, answer: inHalves(bytes, never.promise) });
  const broken = assert.rejects(pull(), (error) => codeOf(error) === "unavailable");
  const half = bytes.length >> 1;
  const ingests = join(daemon.root, "io.containerd.content.v1.content/ingest");
  await until("the other layers and half of this one are here", async () => {
    const names = await readdir(ingests);
    const sizes = names.map((name) => stat(join(ingests, name, "data")).catch(() => undefined));
    const [only, ...others] = (await Promise.all(sizes)).map((found) => found?.size);
    if (only !== half || others.length > 0) return false;
    const stored = (await daemon.ctrOk(["content", "ls", "-q"])).trim().split("\n");
    return stored.length === image.blobs.size - 1;
  });
  await daemon.crash();
  await broken;
  await daemon.start();
  const before = registry.requests.length;
  await pull();
  never.resolve();
  ctx.throwIfEnded();
  const asked = registry.requests.slice(before).filter(({ target }) => target.includes("/blobs/"));
  assert.deepEqual(
    asked.map(({ method, target, headers }) => [method, target, headers.range]),
    [["GET", `/v2/image/blobs/${cut}`, `bytes=${half}-`]],
  );
  assert.equal((await daemon.ctrOk(["content", "ls", "-q"])).trim().split("\n").length, 5);
  assert.equal(digestOf(bytes), cut);
});

roomTest("layers that wait for their registry hold up no other image", async (room) => {
  const [slow, other] = [imageOf(2), imageOf(2)];
  const { registry, pull, files } = await setUp(room, slow, 2);
  addImage(registry, other, "other");
  const rest = Promise.withResolvers<void>();
  for (const index of [0, 1]) {
    const digest = layerOf(slow, index);
    const bytes = registry.blobs.get(digest) ?? Buffer.alloc(0);
    registry.rule({
      match: new RegExp(`GET .*/blobs/${digest}`),
      answer: inHalves(bytes, rest.promise),
    });
  }
  const pulled = pull();
  await until("both have begun", async () => {
    const names = await files();
    return ["first0", "first1"].every((name) => names.some((path) => path.endsWith(`/${name}`)));
  });
  await pull("other");
  rest.resolve();
  await pulled;
});
