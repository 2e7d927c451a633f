import assert from "node:assert/strict";
import { join } from "node:path";
import { digestOf } from "#pkg/digest.ts";
import { type Output, run } from "#test/support/command.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { helloImage, ociArchive } from "#test/support/images.ts";
import { roomTest } from "#test/support/room.ts";

const bin = join(import.meta.dirname, "../../../bin/containerd");

const noCollections = `[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "1h"
  schedule_delay = "1h"
`;

function system(daemon: Daemon, ...args: string[]): Promise<Output> {
  return run([bin, "--config", daemon.configFile, "system", ...args]);
}

/** The cells of the one row of a kind. */
function rowOf(table: string, kind: string): readonly string[] {
  const row = table.split("\n").find((line) => line.split(/ {2,}/)[1] === kind);
  assert.ok(row, `no row of ${kind} in\n${table}`);
  return row.split(/ {2,}/);
}

roomTest(
  "system df and why tell what is stored and what keeps it, beside a daemon and without one",
  async (room) => {
    const daemon = await startDaemon(room, { kind: "ours", config: noCollections });
    const archive = ociArchive(helloImage("hi\n"), "example.test/hello:1");
    await daemon.ctrOk(["i", "import", "--snapshotter", "overlayfs", "-"], { stdin: archive });
    const bytes = Buffer.alloc(3 << 20, "unkept");
    await daemon.ctrOk(["content", "ingest", "left-behind"], { stdin: bytes });
    const create = ["containers", "create", "--snapshotter", "overlayfs"];
    await daemon.ctrOk([...create, "example.test/hello:1", "holder", "true"]);

    const { stdout: table } = await system(daemon, "df");
    const [namespace, , , , garbage, garbageBytes] = rowOf(table, "content");
    // With the archive's own index, which no image is.
    assert.deepEqual([namespace, garbage, garbageBytes], [room.namespace, "2", "3.0 MiB"]);
    assert.deepEqual(rowOf(table, "image").slice(2), ["1", "-", "0", "0 B"]);
    assert.equal(rowOf(table, "snapshot/overlayfs")[4], "0");
    assert.match(table, /^content +3\.\d MiB$/m);

    const unkept = await system(daemon, "why", digestOf(bytes));
    assert.match(unkept.stdout, /is kept by nothing: the next collection takes it\n$/);
    const layer = await daemon.ctrOk(["snapshots", "--snapshotter", "overlayfs", "info", "holder"]);
    const { Parent: parent } = JSON.parse(layer) as { Parent: string };
    const { stdout: why } = await system(daemon, "why", parent);
    assert.match(why, /is kept by container holder\n {4}through snapshot\/overlayfs holder\n/);
    assert.match(why, /is kept by image example\.test\/hello:1\n {4}through content sha256:/);
    const none = await system(daemon, "why", "nobody");
    assert.equal(none.code, 1);
    assert.match(none.stderr, /"nobody": nothing of that name is stored/);

    assert.equal(await daemon.stop(), 0);
    assert.equal((await system(daemon, "df")).stdout, table);
    assert.equal((await system(daemon, "why", parent)).stdout, why);
  },
);
