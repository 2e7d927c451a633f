import assert from "node:assert/strict";
import { test } from "node:test";
import { type NewTarEntry, TarWriter } from "#pkg/archive/tar-writer.ts";
import { digestOf } from "#pkg/digest.ts";
import { codeOf } from "#pkg/errors.ts";

function archiveOf(entries: readonly (NewTarEntry & { readonly content?: Buffer })[]): Buffer {
  const chunks: Buffer[] = [];
  const writer = new TarWriter((chunk) => chunks.push(chunk));
  for (const { content, ...entry } of entries) {
    writer.begin({ ...entry, sizeBytes: content?.length ?? 0 });
    if (content) writer.data(content);
  }
  writer.finish();
  return Buffer.concat(chunks);
}

const second = 1_000_000_000n;

test("the bytes are those of Go's archive/tar", () => {
  const long = "directory/".repeat(30);
  const mtimeNs = second;
  const capability = Buffer.from("01000002002000000a3d", "hex");
  const archive = archiveOf([
    { type: "directory", name: "d/", mode: 0o1755, mtimeNs: 1_000_000_000n * second },
    {
      type: "file",
      name: "d/file",
      mode: 0o4644,
      uid: 1000,
      gid: 1000,
      mtimeNs: 1_234_567_890n * second + 5n,
      content: Buffer.from("hello"),
    },
    { type: "file", name: `${long}x`, mode: 0o644, mtimeNs },
    { type: "file", name: "caf\xe9", mode: 0o644, uid: 3_000_000, gid: 4_000_000_000, mtimeNs },
    { type: "symlink", name: "s", linkName: `${long}y`, mode: 0o777, mtimeNs: -5n * second },
    { type: "link", name: "l", linkName: "d/file", mode: 0o644, mtimeNs },
    { type: "character", name: "c", mode: 0o600, device: { major: 5, minor: 1 }, mtimeNs },
    { type: "fifo", name: "p", mode: 0o600, mtimeNs },
    {
      type: "file",
      name: "d/cap",
      mode: 0o755,
      mtimeNs,
      xattrs: new Map([["security.capability", capability]]),
    },
    { type: "directory", name: `${long}caf\xe9/`, mode: 0o755, mtimeNs },
    { type: "file", name: "d/.wh.gone" },
  ]);
  // Made with the same entries in Go's FormatPAX; the whiteout in no format, as containerd writes
  // it.
  assert.equal(archive.length, 12_288);
  assert.equal(
    digestOf(archive),
    "sha256:43af06be3bd8e9fc292e512f6796ee160005e83bdb555c09b9a6420246e2fc99",
  );
});

test("begin() refuses what has no form in tar", () => {
  const refused: readonly NewTarEntry[] = [
    { type: "file", name: "a\0b" },
    { type: "symlink", name: "a", linkName: "\0" },
    { type: "file", name: "a", xattrs: new Map([["user.a=b", Buffer.alloc(1)]]) },
    { type: "character", name: "a", device: { major: 2 ** 21, minor: 0 } },
  ];
  for (const entry of refused) {
    assert.throws(
      () => archiveOf([entry]),
      (error) => codeOf(error) === "invalid-argument",
    );
  }
});

test("data() must be exactly as long as the header says", () => {
  const writer = new TarWriter(() => {});
  writer.begin({ type: "file", name: "a", sizeBytes: 3 });
  assert.throws(() => writer.data(Buffer.alloc(4)), /more data/);
  assert.throws(() => writer.finish(), /inside an entry/);
  assert.throws(() => writer.begin({ type: "file", name: "b" }), /before the last one/);
});
