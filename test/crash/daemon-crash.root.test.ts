import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { descendantsOf, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";

interface Window {
  readonly failpoint: string;
  /** Until the call in which the daemon ends. */
  readonly before: readonly (readonly string[])[];
  readonly call: readonly string[];
  /** What the next daemon says of c1; undefined where it is gone. */
  readonly status: "CREATED" | "RUNNING" | undefined;
}

const run = ["run", "-d", image, "c1", "sleep", "1000"];

const windows: readonly Window[] = [
  { failpoint: "task.bundle-made", before: [], call: run, status: undefined },
  { failpoint: "task.shim-recorded", before: [], call: run, status: undefined },
  { failpoint: "task.created", before: [], call: run, status: "CREATED" },
  { failpoint: "task.started", before: [], call: run, status: "RUNNING" },
  {
    failpoint: "task.exec-added",
    before: [run],
    call: ["t", "exec", "--exec-id", "e1", "c1", "true"],
    status: "RUNNING",
  },
  { failpoint: "task.deleted", before: [run], call: ["t", "rm", "-f", "c1"], status: undefined },
  { failpoint: "task.shut-down", before: [run], call: ["t", "rm", "-f", "c1"], status: undefined },
];

async function statusOf(daemon: Daemon): Promise<string | undefined> {
  const rows = (await daemon.ctrOk(["t", "ls"])).split("\n").map((line) => line.split(/\s+/));
  return rows.find(([name]) => name === "c1")?.[2];
}

async function bundles(daemon: Daemon, room: Room): Promise<string[]> {
  const path = join(daemon.state, "io.containerd.runtime.v2.task", room.namespace);
  const entries = await readdir(path, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** Everything of c1 can be done, and then again from the beginning. */
async function assertUsable(daemon: Daemon, room: Room, status: Window["status"]): Promise<void> {
  // `ctr t start` makes a task, so one that is made already can only be removed by it.
  if (status === "RUNNING") {
    const exec = await daemon.ctr(["t", "exec", "--exec-id", "e2", "c1", "sh", "-c", "exit 6"]);
    assert.equal(exec.code, 6, exec.stderr);
  }
  if (status !== undefined) await daemon.ctr(["t", "rm", "-f", "c1"]); // -- says 137, as an error
  assert.equal(await statusOf(daemon), undefined);
  assert.deepEqual(await bundles(daemon, room), []);
  await daemon.ctrOk(["c", "rm", "c1"]);
  assert.equal(await daemon.ctrOk(["run", "--rm", image, "c1", "echo", "again"]), "again\n");
  assert.deepEqual(await bundles(daemon, room), []);
}

roomTest(
  "a daemon killed between two steps of a task leaves it whole or gone",
  async (room, t) => {
    const first = await startDaemon(room, { kind: "ours" });
    await first.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
    await first.stop();
    for (const { failpoint, before, call, status } of windows) {
      await t.test(failpoint, async (u) => {
        const env = { CONTAINERD_FAILPOINTS: `${failpoint}=kill` };
        const failing = await startDaemon(room, { kind: "ours", env });
        for (const args of before) await failing.ctrOk(args);
        const { code, stderr } = await failing.ctr(call);
        assert.notEqual(code, 0);
        assert.match(stderr, /unavailable|EOF|closing/i);
        const next = await startDaemon(room, { kind: "ours" });
        u.after(() => next.end());
        assert.equal(await statusOf(next), status);
        await assertUsable(next, room, status);
      });
    }
    await until("no supervisor is left", async () => {
      const processes = await descendantsOf(process.pid);
      return !processes.some(({ command }) => command.includes(room.namespace));
    });
  },
  { needs: ["runc"], timeoutMs: 240_000 },
);
