import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GrpcTransferrer } from "#core/transfer/proxy.ts";
import type { RegistryObject } from "#core/transfer/transfer.ts";
import { Context } from "#pkg/context.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { runDebian } from "#test/support/debian.ts";
import { busyboxImage, hostPlatform, ociArchive } from "#test/support/images.ts";
import { startDockerRegistry } from "#test/support/registry/docker-registry.ts";
import { type Room, roomTest } from "#test/support/room.ts";
import { storeObject } from "../transfer/local-transfer.ts";

const decoder = join(import.meta.dirname, "../../../bin/ctd-decoder");
const layer = "application/vnd.oci.image.layer.v1.tar";

function config(keysDir: string): string {
  return `
[stream_processors."io.containerd.ocicrypt.decoder.v1.tar.gzip"]
  accepts = ["${layer}+gzip+encrypted"]
  returns = "${layer}+gzip"
  path = ${JSON.stringify(decoder)}
  args = ["--decryption-keys-path", ${JSON.stringify(keysDir)}]
`;
}

interface Encrypted {
  readonly ref: string;
  readonly daemon: Daemon;
  readonly pull: () => Promise<void>;
  readonly writeKey: (name: string, key: KeyObject) => Promise<void>;
}

/** An image that skopeo has encrypted for the keys and pushed, and a daemon with a directory of private keys. */
async function encryptedImage(room: Room, recipients: readonly KeyObject[]): Promise<Encrypted> {
  const registry = await startDockerRegistry(room);
  const ref = `${registry.host}/secret:1`;
  const plain = join(room.dir, "plain.tar");
  await writeFile(plain, ociArchive(busyboxImage(), ref));
  const flags: string[] = [];
  for (const [i, key] of recipients.entries()) {
    const file = join(room.dir, `recipient-${i}.pem`);
    await writeFile(file, key.export({ format: "pem", type: "spki" }));
    flags.push("--encryption-key", `jwe:${file}`);
  }
  const places = [`oci-archive:${plain}`, `docker://${ref}`];
  const copy = ["--insecure-policy", "copy", "--dest-tls-verify=false", ...flags, ...places];
  const copied = await runDebian("skopeo", copy, { env: { HOME: room.dir } });
  assert.equal(copied.code, 0, copied.stderr);
  const keysDir = join(room.dir, "keys");
  await mkdir(keysDir);
  const daemon = await startDaemon(room, { kind: "ours", config: config(keysDir) });
  const transport = room.resources.use(new GrpcTransport({ path: daemon.address }));
  const ctx = Context.background({ signal: room.signal, namespace: room.namespace });
  const none = { headers: {}, hostDir: "", defaultScheme: "http", credentials: undefined };
  const from: RegistryObject = { kind: "registry", reference: ref, ...none };
  const unpacks = [{ platform: hostPlatform, snapshotter: "" }];
  return {
    ref,
    daemon,
    pull: () =>
      new GrpcTransferrer(transport).transfer(ctx, from, storeObject({ name: ref, unpacks })),
    writeKey: (name, key) =>
      writeFile(join(keysDir, name), key.export({ format: "pem", type: "pkcs8" })),
  };
}

roomTest(
  "images that skopeo encrypted are pulled and run, with a key and not without",
  async (room) => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const other = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const image = await encryptedImage(room, [rsa.publicKey, ec.publicKey]);
    const { daemon, ref } = image;
    await assert.rejects(image.pull(), /missing private key needed for decryption/);
    await image.writeKey("other.pem", other.privateKey);
    await assert.rejects(image.pull(), /none of the private keys could be used for decryption/);
    await image.writeKey("rsa.pem", rsa.privateKey);
    await image.pull();
    const ran = await daemon.ctr(["run", "--rm", ref, "c1", "cat", "/etc/motd"]);
    assert.deepEqual([ran.stdout, ran.code], ["second layer\n", 0]);
    assert.match(await daemon.ctrOk(["content", "ls"]), /sha256:/);
    // Its unpacked files are gone with it; another recipient's key opens the same blobs.
    await daemon.ctrOk(["i", "rm", "--sync", ref]);
    await image.writeKey("rsa.pem", ec.privateKey);
    await image.pull();
    assert.equal((await daemon.ctr(["run", "--rm", ref, "c2", "true"])).code, 0);
  },
);

roomTest("a client that unpacks by itself has encrypted layers applied too", async (room) => {
  const ec = generateKeyPairSync("ec", { namedCurve: "P-384" });
  const { daemon, ref, writeKey } = await encryptedImage(room, [ec.publicKey]);
  await writeKey("ec.pem", ec.privateKey);
  await daemon.ctrOk(["i", "pull", "--plain-http", ref]);
  assert.equal(await daemon.ctrOk(["run", "--rm", ref, "c1", "echo", "opened"]), "opened\n");
});
