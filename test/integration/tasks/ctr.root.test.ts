import assert from "node:assert/strict";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { descendantsOf, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";

async function startWithImage(room: Room): Promise<Daemon> {
  const daemon = await startDaemon(room);
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  return daemon;
}

async function hasStatus(daemon: Daemon, id: string, status: string): Promise<boolean> {
  const rows = (await daemon.ctrOk(["t", "ls"])).split("\n").map((line) => line.split(/\s+/));
  return rows.some(([name, , state]) => name === id && state === status);
}

roomTest("ctr run shows the output and returns the exit code", async (room) => {
  const daemon = await startWithImage(room);
  const out = await daemon.ctr([
    "run",
    "--rm",
    image,
    "c1",
    "sh",
    "-c",
    "echo out; echo err >&2; exit 3",
  ]);
  assert.deepEqual([out.code, out.stdout, out.stderr], [3, "out\n", "err\n"]);
  assert.equal((await daemon.ctrOk(["c", "ls", "-q"])).trim(), "");
  assert.equal((await daemon.ctrOk(["t", "ls", "-q"])).trim(), "");
});

roomTest(
  "ctr run -d, exec, kill, t rm and c rm follow a container through its life",
  async (room) => {
    const daemon = await startWithImage(room);
    await daemon.ctrOk(["run", "-d", image, "c1", "sleep", "1000"]);
    assert.ok(await hasStatus(daemon, "c1", "RUNNING"));
    const exec = await daemon.ctr([
      "t",
      "exec",
      "--exec-id",
      "e1",
      "c1",
      "sh",
      "-c",
      "echo in; exit 4",
    ]);
    assert.deepEqual([exec.code, exec.stdout], [4, "in\n"]);
    await daemon.ctrOk(["t", "kill", "-s", "SIGKILL", "c1"]);
    await until("the task has stopped", () => hasStatus(daemon, "c1", "STOPPED"));
    await daemon.ctrOk(["t", "rm", "c1"]);
    await daemon.ctrOk(["c", "rm", "c1"]);
    assert.equal((await daemon.ctrOk(["c", "ls", "-q"])).trim(), "");
  },
);

roomTest("a daemon killed while containers run finds them again", async (room) => {
  const daemon = await startWithImage(room);
  await daemon.ctrOk([
    "run",
    "-d",
    image,
    "c1",
    "sh",
    "-c",
    "trap 'exit 9' TERM; while :; do sleep 0.05; done",
  ]);
  const before = await daemon.ctrOk(["t", "ls"]);
  await daemon.crash();
  await daemon.start();
  assert.equal(await daemon.ctrOk(["t", "ls"]), before);
  const exec = await daemon.ctr(["t", "exec", "--exec-id", "e1", "c1", "echo", "still here"]);
  assert.deepEqual([exec.code, exec.stdout], [0, "still here\n"]);
  await daemon.ctrOk(["t", "kill", "-s", "SIGTERM", "c1"]);
  await until("the task has stopped", () => hasStatus(daemon, "c1", "STOPPED"));
  await daemon.ctrOk(["t", "rm", "c1"]);
  await daemon.ctrOk(["c", "rm", "c1"]);
});

roomTest("a daemon stopped in order leaves containers running for the next", async (room) => {
  const daemon = await startWithImage(room);
  await daemon.ctrOk(["run", "-d", image, "c1", "sleep", "1000"]);
  assert.equal(await daemon.stop(), 0);
  await daemon.start();
  assert.ok(await hasStatus(daemon, "c1", "RUNNING"));
  await daemon.ctrOk(["t", "kill", "-s", "SIGKILL", "c1"]);
  await until("the task has stopped", () => hasStatus(daemon, "c1", "STOPPED"));
  await daemon.ctrOk(["t", "rm", "c1"]);
  await daemon.ctrOk(["c", "rm", "c1"]);
});

roomTest(
  "a supervisor that a killed daemon leaves without tasks is ended by the next",
  async (room) => {
    const daemon = await startWithImage(room);
    if (daemon.kind === "go") return;
    await daemon.ctrOk(["run", "--rm", image, "c1", "true"]);
    assert.equal((await supervisors(room)).length, 1);
    await daemon.crash();
    assert.equal((await supervisors(room)).length, 1);
    await daemon.start();
    await until("the supervisor has ended", async () => (await supervisors(room)).length === 0);
  },
);

roomTest("a daemon that is stopped ends supervisors without tasks", async (room) => {
  const daemon = await startWithImage(room);
  if (daemon.kind === "go") return;
  await daemon.ctrOk(["run", "--rm", image, "c1", "true"]);
  assert.equal(await daemon.stop(), 0);
  assert.deepEqual(await supervisors(room), []);
});

async function supervisors(room: Room): Promise<readonly number[]> {
  const processes = await descendantsOf(process.pid);
  return processes
    .filter(({ command }) => command.includes(room.namespace) && command.endsWith(" supervise"))
    .map(({ pid }) => pid);
}
