import assert from "node:assert/strict";
import { lstat, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { Images } from "#api/services/images/v1/images_pb.ts";
import { createServer } from "node:http";
import { once } from "node:events";
import { staticCredentials } from "#core/remotes/credentials.ts";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { Progress, RegistryObject, TransferObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { codeOf, isNotFound } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { startDaemon, type Daemon } from "#test/support/daemon.ts";
import { buildImage, busyboxImage, hostPlatform, ociArchive } from "#test/support/images.ts";
import { startRegistry } from "#test/support/registry/registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { whiteout } from "#test/support/tar.ts";
import { anyName, exportObject, importObject, storeObject } from "./local-transfer.ts";

const name = "docker.io/library/busybox:1";
const unpacks = [{ platform: hostPlatform, snapshotter: "" }];

interface Setup {
  readonly ctx: Context;
  readonly daemon: Daemon;
  readonly transport: GrpcTransport;
  readonly transferrer: GrpcTransferrer;
  readonly names: () => Promise<string[]>;
}

async function setUp(room: Room, config = ""): Promise<Setup> {
  const daemon = await startDaemon(room, { kind: "ours", config });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const images = createClient(Images, transport);
  return {
    ctx,
    daemon,
    transport,
    transferrer: new GrpcTransferrer(transport),
    names: async () => (await images.list(ctx, {})).images.map((image) => image.name),
  };
}

function registryObject(reference: string, more: Partial<RegistryObject> = {}): RegistryObject {
  const none = { headers: {}, hostDir: "", credentials: undefined };
  return { kind: "registry", reference, ...none, defaultScheme: "http", ...more };
}

roomTest("an archive goes in, is unpacked, and comes out over streams", async (room) => {
  const { ctx, transferrer, names, daemon } = await setUp(room);
  const archive = ociArchive(busyboxImage(), name);
  const steps: Progress[] = [];
  const store = storeObject({ references: [anyName], platforms: [hostPlatform], unpacks });
  const progress = (step: Progress): void => void steps.push(step);
  await transferrer.transfer(ctx, importObject(archive), store, { progress });
  assert.deepEqual(
    steps.map(({ event }) => event),
    ["Importing", "saved", "Completed import"],
  );
  assert.deepEqual(await names(), [name]);
  assert.match(await daemon.ctrOk(["snapshots", "ls"]), /sha256:\w+ +sha256:\w+ +Committed/);
  const ran = await daemon.ctr(["run", "--rm", name, "c1", "cat", "/etc/motd"]);
  assert.deepEqual([ran.stdout, ran.code], ["second layer\n", 0]);
  const exports: Buffer[] = [];
  for (let i = 0; i < 2; i++) {
    const chunks: Uint8Array[] = [];
    await transferrer.transfer(ctx, storeObject({ name }), exportObject({}, chunks));
    exports.push(Buffer.concat(chunks));
  }
  assert.ok(exports[0]?.equals(exports[1] ?? Buffer.alloc(0)));
  const again = storeObject({ references: [anyName] });
  await transferrer.transfer(ctx, importObject(exports[0] ?? archive), again);
  const chunks: Uint8Array[] = [];
  const missing = storeObject({ name: "docker.io/library/none:1" });
  await assert.rejects(transferrer.transfer(ctx, missing, exportObject({}, chunks)), isNotFound);
});

roomTest(
  "an import that is broken off by its client leaves no image and no lease",
  async (room) => {
    const { ctx, transferrer, names, daemon } = await setUp(room);
    const controller = new AbortController();
    const archive = ociArchive(busyboxImage(), name);
    const source = importObject(archive);
    const cut = {
      ...source,
      async *read(reading: Context) {
        yield archive.subarray(0, 200_000);
        controller.abort();
        reading.throwIfEnded();
      },
    };
    const store = storeObject({ references: [anyName] });
    const broken = ctx.withSignal(controller.signal);
    await assert.rejects(transferrer.transfer(broken, cut, store), (error) => {
      return codeOf(error) === "canceled";
    });
    await transferrer.transfer(ctx, source, store);
    assert.deepEqual(await names(), [name]);
    assert.equal((await daemon.ctrOk(["leases", "ls", "-q"])).trim(), "");
  },
);

roomTest("an image is pulled with progress, and again without a blob", async (room) => {
  const { ctx, transferrer, names, daemon } = await setUp(room);
  const served = { repository: "library/busybox", tag: "1", image: busyboxImage() };
  const registry = room.resources.use(await startRegistry([served]));
  const ref = `${registry.host}/library/busybox:1`;
  const store = storeObject({ name: ref, platforms: [hostPlatform], unpacks });
  const steps: Progress[] = [];
  const progress = (step: Progress): void => void steps.push(step);
  await transferrer.transfer(ctx, registryObject(ref), store, { progress });
  assert.deepEqual(await names(), [ref]);
  const extracted = steps.filter(({ event }) => event === "extracted");
  assert.equal(extracted.length, 2);
  assert.equal(steps.at(-1)?.event, `Completed pull from OCI Registry (${ref})`);
  const before = registry.requests.length;
  await transferrer.transfer(ctx, registryObject(ref), store);
  const later = registry.requests.slice(before);
  assert.deepEqual(later, ["HEAD /v2/library/busybox/manifests/1 200"]);
  const ran = await daemon.ctr(["run", "--rm", ref, "c1", "cat", "/etc/motd"]);
  assert.deepEqual([ran.stdout, ran.code], ["second layer\n", 0]);
});

roomTest(
  "credentials are asked for at the client's stream, and go where they were asked for",
  async (room) => {
    const { ctx, transferrer } = await setUp(room);
    const seen: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      seen.push(request.headers.authorization);
      const isKnown = request.headers.authorization === `Basic ${btoa("me:secret")}`;
      response.writeHead(isKnown ? 404 : 401, { "www-authenticate": 'Basic realm="test"' }).end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    room.resources.defer(() => void server.close());
    const address = server.address();
    assert.ok(typeof address === "object" && address);
    const host = `127.0.0.1:${address.port}`;
    const ref = `${host}/private/image:1`;
    const credentials = staticCredentials(host, { username: "me", secret: "secret" }, "test");
    const pull = (more: Partial<RegistryObject>): Promise<void> =>
      transferrer.transfer(ctx, registryObject(ref, more), storeObject({ name: ref }));
    await assert.rejects(pull({ credentials }), isNotFound);
    assert.ok(seen.includes(`Basic ${btoa("me:secret")}`));
    seen.length = 0;
    await assert.rejects(pull({}), (error) => codeOf(error) !== "not-found");
    assert.ok(seen.every((header) => header === undefined));
    const wrong = staticCredentials("other.test", { username: "me", secret: "secret" }, "test");
    await assert.rejects(pull({ credentials: wrong }));
    assert.ok(seen.every((header) => header === undefined));
  },
);

/** Every path with its mode and owner. */
async function listing(root: string): Promise<string> {
  const paths = (await readdir(root, { recursive: true })).toSorted();
  const lines = paths.map(async (path) => {
    const { mode, uid } = await lstat(join(root, path));
    return `${path} ${(mode & 0o7777).toString(8)} ${uid}`;
  });
  return (await Promise.all(lines)).join("\n");
}

roomTest(
  "layers unpacked beside each other make the same files as one after the other",
  async (room) => {
    const image = buildImage({
      layers: [
        [
          { path: "d", type: "directory", mode: 0o750, uid: 7 },
          { path: "d/gone", content: "1" },
          { path: "d/kept", content: "1" },
          { path: "link", type: "symlink", target: "d/kept" },
        ],
        [whiteout("d/gone"), { path: "d/new", content: "2" }],
        [
          { path: "d/.wh..wh..opq", content: "" },
          { path: "d/last", content: "3" },
        ],
        [{ path: "d/deep/er", content: "4" }],
      ],
    });
    const trees: string[] = [];
    for (const unpacksMax of [1, 4]) {
      const table = '[plugins."io.containerd.transfer.v1.local"]';
      const config = `${table}\n  max_concurrent_unpacks = ${unpacksMax}\n`;
      const { ctx, transferrer, daemon } = await setUp(room, config);
      const store = storeObject({ references: [anyName], unpacks });
      await transferrer.transfer(ctx, importObject(ociArchive(image, name)), store);
      const target = join(room.dir, `tree-${unpacksMax}`);
      await mkdir(target);
      await daemon.ctrOk(["i", "mount", name, target]);
      trees.push(await listing(target));
      await daemon.ctrOk(["i", "unmount", "--rm", target]);
      await daemon.ctrOk(["i", "rm", "--sync", name]);
      await daemon.stop();
    }
    assert.equal(trees[0], trees[1]);
    const expected = "d 750 7\nd/deep 755 0\nd/deep/er 644 0\nd/last 644 0\nlink 777 0";
    assert.equal(trees[0], expected);
  },
);

roomTest("what the service does not do and what makes no sense is refused", async (room) => {
  const { ctx, transferrer } = await setUp(room);
  const store = storeObject({ name });
  const archive = importObject(Buffer.alloc(0));
  const registry = registryObject("registry.test/a:1");
  for (const [source, destination, code] of [
    [registry, registry, "not-implemented"],
    [archive, registry, "not-implemented"],
    [registryObject("registry.test/../a"), store, "invalid-argument"],
    [registryObject("registry.test/a", { hostDir: "certs" }), store, "invalid-argument"],
    [registryObject("registry.test/a", { defaultScheme: "ftp" }), store, "invalid-argument"],
  ] as readonly (readonly [TransferObject, TransferObject, string])[]) {
    const refused = transferrer.transfer(ctx, source, destination);
    await assert.rejects(refused, (error) => codeOf(error) === code, `${source.kind} ${code}`);
  }
});
