import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { startDaemon } from "#test/support/daemon.ts";
import { digestOf } from "#test/support/images.ts";
import { until } from "#test/support/processes.ts";
import { roomTest } from "#test/support/room.ts";

roomTest("a daemon ends at the failpoint it is told, and its next start heals", async (room) => {
  const failpoint = "metadata.content-before-record=kill";
  const env = { CONTAINERD_FAILPOINTS: failpoint };
  const failing = await startDaemon(room, { kind: "ours", env });
  assert.match(await failing.log(), /level=warning msg="failpoints are on.*before-record=kill/);
  const text = "made, not recorded";
  const ingest = ["content", "ingest", "--expected-digest", digestOf(text), "ref"];
  assert.notEqual((await failing.ctr(ingest, { stdin: text })).code, 0);
  const blobs = join(failing.root, "io.containerd.content.v1.content/blobs/sha256");
  assert.equal((await readdir(blobs)).length, 1, "it ended after the blob was made");

  const daemon = await startDaemon(room, { kind: "ours" });
  assert.equal(await daemon.ctrOk(["content", "ls", "-q"]), "");
  await until("the orphan is removed", async () => (await readdir(blobs)).length === 0);
  await daemon.ctrOk(ingest, { stdin: text });
  assert.equal(await daemon.ctrOk(["content", "get", digestOf(text)]), text);
});

roomTest("a daemon told a failpoint that is none does not start", async (room) => {
  const env = { CONTAINERD_FAILPOINTS: "content.after-synk=kill" };
  await assert.rejects(
    startDaemon(room, { kind: "ours", env }),
    /CONTAINERD_FAILPOINTS: "content.after-synk" is no failpoint/,
  );
});
