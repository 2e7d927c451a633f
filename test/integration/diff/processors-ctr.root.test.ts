import assert from "node:assert/strict";
import { startDaemon } from "#test/support/daemon.ts";
import {
  busyboxImage,
  type Descriptor,
  digestOf,
  type Image,
  ociArchive,
} from "#test/support/images.ts";
import { roomTest } from "#test/support/room.ts";

const name = "docker.io/library/busybox:turned";
const turned = "application/vnd.oci.image.layer.v1.tar+turned";

const turn = "LC_ALL=C tr '\\\\001-\\\\377\\\\000' '\\\\000-\\\\377'";
const config = `
[stream_processors."test.turn"]
  accepts = ["${turned}"]
  returns = "application/vnd.oci.image.layer.v1.tar+gzip"
  path = "sh"
  args = ["-c", "test $ALLOWED = yes || { echo not allowed >&2; exit 7; }; ${turn}"]
  env = ["ALLOWED=%"]
`;

/** The same image with every byte of its layers one higher. */
function turnedImage(): Image {
  const image = busyboxImage();
  const blobs = new Map(image.blobs);
  const manifest = JSON.parse(Buffer.from(blobOf(image, image.target.digest)).toString()) as {
    layers: Descriptor[];
  }; // -- built by busyboxImage
  const layers = manifest.layers.map((layer) => {
    const bytes = Buffer.from(blobOf(image, layer.digest).map((byte) => (byte + 1) & 0xff));
    blobs.set(digestOf(bytes), bytes);
    return { ...layer, mediaType: turned, digest: digestOf(bytes) };
  });
  const bytes = Buffer.from(JSON.stringify({ ...manifest, layers }));
  const target = { ...image.target, digest: digestOf(bytes), size: bytes.length };
  return { ...image, target, blobs: blobs.set(target.digest, bytes) };
}

function blobOf(image: Image, digest: string): Uint8Array {
  const blob = image.blobs.get(digest);
  assert.ok(blob, digest);
  return blob;
}

roomTest(
  "an image of another media type runs with a processor of the configuration",
  async (room) => {
    const daemon = await startDaemon(room, { config: config.replace("%", "yes") });
    await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(turnedImage(), name) });
    assert.equal(await daemon.ctrOk(["run", "--rm", name, "c1", "echo", "turned"]), "turned\n");
  },
);

roomTest("the client is told what a processor that failed had to say", async (room) => {
  const daemon = await startDaemon(room, { config: config.replace("%", "no") });
  const archive = ociArchive(turnedImage(), name);
  const out = await daemon.ctr(["i", "import", "-"], { stdin: archive });
  assert.notEqual(out.code, 0);
  // Go's tells it only when what came before it happened to be a whole layer.
  if (daemon.kind === "ours") assert.match(out.stderr, /test\.turn: exit status 7: not allowed/);
});
