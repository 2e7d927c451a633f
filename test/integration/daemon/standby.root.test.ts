import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { descendantsOf, type ProcessInfo, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";

async function start(room: Room, config = ""): Promise<Daemon> {
  const daemon = await startDaemon(room, { kind: "ours", config });
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  return daemon;
}

async function processesThat(test: (info: ProcessInfo) => boolean): Promise<number[]> {
  const processes = await descendantsOf(process.pid);
  return processes.filter((info) => info.state !== "Z" && test(info)).map(({ pid }) => pid);
}

/** Node, and not the shell that becomes it. */
const waiting = (): Promise<number[]> =>
  processesThat(({ command }) => /^\S*node .* standby$/.test(command));

function serving(room: Room): Promise<number[]> {
  return processesThat(
    ({ command }) => command.includes(` ${room.namespace} `) && command.endsWith(" supervise"),
  );
}

async function theOneThatWaits(): Promise<number> {
  let pids: number[] = [];
  await until("one waits", async () => (pids = await waiting()).length > 0, { timeoutMs: 20_000 });
  assert.equal(pids.length, 1);
  return pids[0] ?? 0;
}

const gone = (pid: number): Promise<void> =>
  until("it is gone", async () => !(await waiting()).includes(pid));

roomTest(
  "the first container is given the supervisor that waits, and shows whom it serves",
  async (room) => {
    const daemon = await start(room);
    const pid = await theOneThatWaits();
    const run = await daemon.ctr(["run", "--rm", image, "c1", "sh", "-c", "echo out; exit 3"]);
    assert.deepEqual(run, { code: 3, stdout: "out\n", stderr: "" });
    assert.deepEqual(await serving(room), [pid]);
    assert.deepEqual(await waiting(), []);
  },
);

roomTest("one that has died is done without", async (room) => {
  const daemon = await start(room);
  const pid = await theOneThatWaits();
  process.kill(pid, "SIGSTOP");
  process.kill(pid, "SIGKILL");
  const run = await daemon.ctr(["run", "--rm", image, "c1", "true"]);
  assert.deepEqual(run, { code: 0, stdout: "", stderr: "" });
  assert.notDeepEqual(await serving(room), [pid]);
});

roomTest("it goes with its daemon, stopped or killed", async (room) => {
  const daemon = await start(room);
  const first = await theOneThatWaits();
  await daemon.crash();
  await gone(first);
  await daemon.start();
  const second = await theOneThatWaits();
  await daemon.stop();
  await gone(second);
});

roomTest("there is another once the last supervisor has gone", async (room) => {
  const daemon = await start(room);
  const first = await theOneThatWaits();
  await daemon.ctrOk(["run", "--rm", image, "c1", "true"]);
  assert.deepEqual(await serving(room), [first]);
  await until("it is not needed any more", async () => (await serving(room)).length === 0, {
    timeoutMs: 30_000,
  });
  assert.notEqual(await theOneThatWaits(), first);
});

roomTest("none is started where none is wanted", async (room) => {
  const daemon = await start(room, '[plugins."io.containerd.shim.v1.manager"]\nstandby = false\n');
  await delay(2_500);
  assert.deepEqual(await waiting(), []);
  await daemon.ctrOk(["run", "--rm", image, "c1", "true"]);
});
