import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { type Daemon, type DaemonKind, startDaemon } from "#test/support/daemon.ts";
import { debianProgram } from "#test/support/debian.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { descendantsOf, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";
/** Counts, and ends with 9 when told to. */
const counting =
  "trap 'exit 9' TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1 & wait $!; done";

interface Client {
  /** SIGKILL: it removes no FIFO, as a client that sees the daemon go would. */
  crash(): Promise<void>;
  output: string;
  code: number | undefined;
}

/** `ctr` with its output as it comes. */
function follow(room: Room, daemon: Daemon, args: readonly string[]): Client {
  const child = spawn(debianProgram("ctr"), args, { env: daemon.clientEnv });
  const crash = async (): Promise<void> => {
    child.kill("SIGKILL");
    await until("ctr ends", () => client.code !== undefined);
  };
  const client: Client = { crash, output: "", code: undefined };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (client.output += text));
  }
  child.once("close", (code, signal) => (client.code = code ?? (signal === null ? 0 : 128)));
  room.resources.defer(crash);
  return client;
}

function lastLine(output: string): number {
  return Number(/.*^line (\d+)$/ms.exec(output)?.[1] ?? 0);
}

async function stateOf(daemon: Daemon, id: string): Promise<string | undefined> {
  const rows = (await daemon.ctrOk(["t", "ls"])).split("\n").map((line) => line.split(/\s+/));
  return rows.find(([name]) => name === id)?.[2];
}

async function startWithContainer(room: Room, kind?: DaemonKind): Promise<Daemon> {
  const daemon = await startDaemon(room, kind && { kind });
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  room.resources.defer(async () => {
    await daemon.ctr(["t", "rm", "-f", "c1"]);
    await daemon.ctr(["c", "rm", "c1"]);
    await daemon.end();
    // It tries for some seconds to be rid of events that the daemon did not take before it went.
    await until("the supervisor ends", async () => {
      const processes = await descendantsOf(process.pid);
      return !processes.some(({ command }) => command.includes(room.namespace));
    });
  });
  await daemon.ctrOk(["run", "-d", image, "c1", "sh", "-c", counting]);
  return daemon;
}

for (const [how, end] of [
  ["SIGKILL", (daemon: Daemon) => daemon.crash()],
  ["SIGTERM", (daemon: Daemon) => daemon.stop()],
] as const) {
  roomTest(
    `a container goes on over ${how} and a start: attach, exec, wait, exit`,
    async (room) => {
      const daemon = await startWithContainer(room);
      const first = follow(room, daemon, ["t", "attach", "c1"]);
      await until("it counts", () => lastLine(first.output) > 1);
      const before = await daemon.ctrOk(["t", "ls"]);
      await first.crash();
      await end(daemon);
      await daemon.start();
      assert.equal(await daemon.ctrOk(["t", "ls"]), before);
      const seen = lastLine(first.output);
      const attached = follow(room, daemon, ["t", "attach", "c1"]);
      await until("output goes on", () => lastLine(attached.output) > seen);
      const exec = await daemon.ctr(["t", "exec", "--exec-id", "e1", "c1", "sh", "-c", "exit 6"]);
      assert.deepEqual(exec, { code: 6, stdout: "", stderr: "" });
      await daemon.ctrOk(["t", "kill", "c1"]);
      await until("attach ends with the container's exit code", () => attached.code !== undefined);
      assert.equal(attached.code, 9, attached.output);
    },
  );
}

roomTest("a client that is attached notices nothing of its supervisor's death", async (room) => {
  // Go's shims have no successor.
  const daemon = await startWithContainer(room, "ours");
  const attached = follow(room, daemon, ["t", "attach", "c1"]);
  await until("it counts", () => lastLine(attached.output) > 1);
  const supervisors = async (): Promise<number[]> => {
    const processes = await descendantsOf(process.pid);
    return processes.filter(({ command }) => command.endsWith(" supervise")).map(({ pid }) => pid);
  };
  const [first = 0, ...others] = await supervisors();
  assert.deepEqual(others, []);
  process.kill(first, "SIGKILL");
  await until("there is another", async () => {
    const [second] = await supervisors();
    return second !== undefined && second !== first;
  });
  const seen = lastLine(attached.output);
  await until("output goes on", () => lastLine(attached.output) > seen + 5);
  assert.equal(attached.code, undefined);
  const exec = await daemon.ctr(["t", "exec", "--exec-id", "e1", "c1", "sh", "-c", "exit 6"]);
  assert.deepEqual(exec, { code: 6, stdout: "", stderr: "" });
  await daemon.ctrOk(["t", "kill", "c1"]);
  await until("attach ends with the container's exit code", () => attached.code !== undefined);
  assert.equal(attached.code, 9, attached.output);
  const lines = attached.output.split("\n").filter((line) => /^line \d+$/.test(line));
  const [start = ""] = lines;
  const from = Number(start.slice("line ".length));
  assert.deepEqual(
    lines,
    lines.map((_, i) => `line ${from + i}`),
  );
});

roomTest("what ends while no daemon runs is found ended, with its exit code", async (room) => {
  const daemon = await startWithContainer(room);
  const pid = Number(/^c1\s+(\d+)/m.exec(await daemon.ctrOk(["t", "ls"]))?.[1]);
  await daemon.crash();
  process.kill(pid, "SIGTERM");
  await daemon.start();
  await until("it has stopped", async () => (await stateOf(daemon, "c1")) === "STOPPED");
  const removed = await daemon.ctr(["t", "rm", "c1"]);
  assert.match(removed.stderr, /task c1 exit with non-zero exit code 9/);
  assert.equal(await stateOf(daemon, "c1"), undefined);
});
