import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { debianProgram } from "#test/support/debian.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";
const limit = String(16 << 20);
const devour = "x=$(head -c 100000000 /dev/zero | tr '\\0' a)";

/** The topics of task events, as they come. */
async function followTopics(room: Room, daemon: Daemon): Promise<() => readonly string[]> {
  const child = spawn(debianProgram("ctr"), ["events"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: daemon.clientEnv,
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  room.resources.defer(async () => {
    const ended = once(child, "exit");
    child.kill();
    await ended;
  });
  const topics = (): string[] =>
    Array.from(text.matchAll(/ (\/\S+) \{/g), ([, topic = ""]) => topic);
  // Who listens is seen only by what arrives.
  await until("events arrive", async () => {
    await daemon.ctrOk(["ns", "label", room.namespace, "seen=yes"]);
    return topics().length > 0;
  });
  return () => topics().filter((topic) => topic.startsWith("/tasks/"));
}

async function startWithImage(room: Room): Promise<Daemon> {
  const daemon = await startDaemon(room);
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  return daemon;
}

async function removeContainer(daemon: Daemon): Promise<void> {
  await daemon.ctrOk(["t", "rm", "-f", "c1"]);
  await daemon.ctrOk(["c", "rm", "c1"]);
}

roomTest("a first process killed for want of memory is told of, then its exit", async (room) => {
  const daemon = await startWithImage(room);
  const topics = await followTopics(room, daemon);
  await daemon.ctrOk(["run", "-d", "--memory-limit", limit, image, "c1", "sh", "-c", devour]);
  await until("it has ended", () => topics().includes("/tasks/exit"));
  await until("the kernel's kill is told", () => topics().includes("/tasks/oom"));
  // Go's shim hears of the two in either order.
  if (daemon.kind === "ours") {
    assert.deepEqual(topics(), ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit"]);
  }
  await removeContainer(daemon);
});

roomTest("a killed child is told of while the container goes on", async (room) => {
  const daemon = await startWithImage(room);
  const topics = await followTopics(room, daemon);
  const script = `sh -c "${devour.replaceAll("$", "\\$")}"; exec sleep 1000`;
  await daemon.ctrOk(["run", "-d", "--memory-limit", limit, image, "c1", "sh", "-c", script]);
  await until("the kernel's kill is told", () => topics().includes("/tasks/oom"));
  assert.equal(topics().includes("/tasks/exit"), false);
  await removeContainer(daemon);
});
