import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { isErrno } from "#pkg/errors.ts";
import { type Daemon, daemonKind, startDaemon } from "#test/support/daemon.ts";
import { busyboxImage, ociArchive } from "#test/support/images.ts";
import { until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const image = "docker.io/library/busybox:1";
const label = (name: string): string => `containerd.io/restart.${name}`;
// Whoever writes labels below this prefix by `ctr c label` is the owner: Go's clients do so too.
const running = `${label("status")}=running`;
// The section's name before version 4: of a Go daemon of 1.6, and migrated by ours.
const config = '[plugins."io.containerd.internal.v1.restart"]\n  interval = "200ms"\n';

async function startWithImage(room: Room): Promise<Daemon> {
  const daemon = await startDaemon(room, { config });
  await daemon.ctrOk(["i", "import", "-"], { stdin: ociArchive(busyboxImage(), image) });
  return daemon;
}

/** Labelled only once it runs: the monitor would start what has no task yet. */
async function runDetached(
  daemon: Daemon,
  id: string,
  options: { labels: readonly string[]; script: string },
): Promise<void> {
  await daemon.ctrOk(["run", "-d", image, id, "sh", "-c", options.script]);
  await daemon.ctrOk(["c", "label", id, ...options.labels]);
}

async function labelsOf(daemon: Daemon, id: string): Promise<Readonly<Record<string, string>>> {
  // -- what ctr prints of a record
  const { Labels } = JSON.parse(await daemon.ctrOk(["c", "info", id])) as {
    Labels: Record<string, string>;
  };
  return Labels;
}

async function countOf(daemon: Daemon, id: string): Promise<number> {
  return Number((await labelsOf(daemon, id))[label("count")] ?? 0);
}

interface TaskRow {
  readonly pid: number;
  readonly status: string;
}

async function taskOf(daemon: Daemon, id: string): Promise<TaskRow | undefined> {
  const rows = (await daemon.ctrOk(["t", "ls"])).split("\n").map((line) => line.split(/\s+/));
  const row = rows.find(([name]) => name === id);
  return row && { pid: Number(row[1]), status: row[2] ?? "" };
}

async function hasStatus(daemon: Daemon, id: string, status: string): Promise<boolean> {
  return (await taskOf(daemon, id))?.status === status;
}

/** So many looks at the containers have passed: each starts this one, which ends at once. */
async function passLooks(daemon: Daemon, looks: number): Promise<void> {
  const log = join(dirname(daemon.configFile), "clock.log");
  const starts = async (): Promise<number> => (await textOf(log)).split("\n").length;
  if ((await daemon.ctrOk(["c", "ls", "-q"])).split("\n").every((id) => id !== "clock")) {
    const labels = [running, `${label("loguri")}=file://${log}`];
    await runDetached(daemon, "clock", { labels, script: "echo tick" });
  }
  const before = await starts();
  await until("the monitor looks again", async () => (await starts()) >= before + looks);
}

/** Lets the monitor take the tasks away, and removes the containers. */
async function removeAll(daemon: Daemon): Promise<void> {
  const ids = (await daemon.ctrOk(["c", "ls", "-q"])).trim().split("\n");
  for (const id of ids) await daemon.ctrOk(["c", "label", id, `${label("status")}=stopped`]);
  for (const id of ids) {
    await until(`task ${id} does not run`, async () => {
      const task = await taskOf(daemon, id);
      return task === undefined || task.status === "STOPPED";
    });
    // One that stopped by itself is as wanted, and left; else the monitor may be deleting it now.
    if (await taskOf(daemon, id)) await daemon.ctr(["t", "rm", id]);
    await until(`task ${id} is gone`, async () => (await taskOf(daemon, id)) === undefined);
    await daemon.ctrOk(["c", "rm", id]);
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "";
    throw error;
  }
}

roomTest(
  "a container that should run is started, counted and logged, as often as it is killed",
  async (room) => {
    const daemon = await startWithImage(room);
    const log = join(room.dir, "c1.log");
    const labels = [running, `${label("loguri")}=file://${log}`];
    await runDetached(daemon, "c1", { labels, script: "echo up; exec sleep 1000" });
    for (const count of [1, 2]) {
      const before = await taskOf(daemon, "c1");
      await daemon.ctrOk(["t", "kill", "-s", "SIGKILL", "c1"]);
      await until("it runs again", async () => {
        const task = await taskOf(daemon, "c1");
        return task?.status === "RUNNING" && task.pid !== before?.pid;
      });
      // Before it is killed again: what was killed first says nothing.
      await until("it has logged", async () => (await textOf(log)) === "up\n".repeat(count));
      // Go containerd counts from 1.7 on.
      if (daemon.kind === "ours") assert.equal(await countOf(daemon, "c1"), count);
    }
    await removeAll(daemon);
    assert.equal((await daemon.ctrOk(["t", "ls", "-q"])).trim(), "");
  },
);

roomTest("a terminal's output goes to the program of its label", async (room, t) => {
  // Proved on Go containerd 2.1, by CONTAINERD_TEST_GO: 1.6 cannot start a terminal here.
  if (daemonKind() === "go" && process.env["CONTAINERD_TEST_GO"] === undefined) {
    t.skip("Go containerd 1.6 gives its restarted containers no terminal");
    return;
  }
  const daemon = await startWithImage(room);
  const seen = join(room.dir, "seen");
  const program = join(room.dir, "logger");
  const body = `exec 5>&-\nPATH=/bin:/usr/bin\nexec cat <&3 >>${seen}\n`;
  await writeFile(program, `#!/bin/sh\n${body}`, { mode: 0o755 });
  const labels = [running, `${label("loguri")}=binary://${program}`];
  const flags = labels.flatMap((each) => ["--label", each]);
  const script = "tty >/dev/null && echo on a terminal; exec sleep 1000";
  await daemon.ctrOk(["c", "create", "-t", ...flags, "--", image, "c1", "sh", "-c", script]);
  await until("it has logged", async () => (await textOf(seen)) === "on a terminal\r\n");
  await removeAll(daemon);
});

function skipsPolicies(t: TestContext): boolean {
  if (daemonKind() === "ours") return false;
  t.skip("Go containerd knows policies, and leaves paused ones alone, from 1.7 on");
  return true;
}

roomTest("policies say which exits are answered, and how often", async (room, t) => {
  if (skipsPolicies(t)) return;
  const daemon = await startWithImage(room);
  const cases = [
    ["limited", "on-failure:2", "exit 3"],
    ["succeeding", "on-failure", "exit 0"],
    ["never", "no", "exit 3"],
    ["unknown", "sometimes", "exit 3"],
  ] as const;
  for (const [id, policy, script] of cases) {
    await runDetached(daemon, id, { labels: [running, `${label("policy")}=${policy}`], script });
  }
  await until("the limit is reached", async () => (await countOf(daemon, "limited")) === 2);
  await passLooks(daemon, 3);
  assert.equal(await countOf(daemon, "limited"), 2);
  for (const id of ["succeeding", "never", "unknown"]) {
    assert.equal(await countOf(daemon, id), 0, id);
    assert.equal((await taskOf(daemon, id))?.status, "STOPPED", id);
  }
  await removeAll(daemon);
});

roomTest("a paused container is left alone", async (room, t) => {
  if (skipsPolicies(t)) return;
  const daemon = await startWithImage(room);
  await runDetached(daemon, "c1", { labels: [running], script: "exec sleep 1000" });
  await daemon.ctrOk(["t", "pause", "c1"]);
  const paused = await taskOf(daemon, "c1");
  await passLooks(daemon, 3);
  assert.deepEqual(await taskOf(daemon, "c1"), { pid: paused?.pid, status: "PAUSED" });
  await daemon.ctrOk(["t", "resume", "c1"]);
  await removeAll(daemon);
});

roomTest("what was stopped on purpose is left alone until that is taken back", async (room, t) => {
  if (skipsPolicies(t)) return;
  const daemon = await startWithImage(room);
  const labels = [running, `${label("policy")}=unless-stopped`];
  await runDetached(daemon, "c1", { labels, script: "exec sleep 1000" });
  await daemon.ctrOk(["c", "label", "c1", `${label("explicitly-stopped")}=true`]);
  await daemon.ctrOk(["t", "kill", "-s", "SIGKILL", "c1"]);
  await until("it has stopped", () => hasStatus(daemon, "c1", "STOPPED"));
  await passLooks(daemon, 3);
  assert.equal((await taskOf(daemon, "c1"))?.status, "STOPPED");
  await daemon.ctrOk(["c", "label", "c1", `${label("explicitly-stopped")}=false`]);
  await until("it runs again", () => hasStatus(daemon, "c1", "RUNNING"));
  await removeAll(daemon);
});

roomTest(
  "`always` forgets at the daemon's start that it was stopped on purpose",
  async (room, t) => {
    if (skipsPolicies(t)) return;
    const daemon = await startWithImage(room);
    const policies = { a: "always", u: "unless-stopped" };
    for (const [id, name] of Object.entries(policies)) {
      const labels = [running, `${label("policy")}=${name}`];
      await runDetached(daemon, id, { labels, script: "exec sleep 1000" });
      await daemon.ctrOk(["c", "label", id, `${label("explicitly-stopped")}=true`]);
      await daemon.ctrOk(["t", "kill", "-s", "SIGKILL", id]);
      await until("it has stopped", () => hasStatus(daemon, id, "STOPPED"));
    }
    await passLooks(daemon, 3);
    assert.equal((await taskOf(daemon, "a"))?.status, "STOPPED");
    await daemon.stop();
    await daemon.start();
    await until("it runs again", () => hasStatus(daemon, "a", "RUNNING"));
    assert.equal((await labelsOf(daemon, "a"))[label("explicitly-stopped")], "false");
    assert.equal((await taskOf(daemon, "u"))?.status, "STOPPED");
    await removeAll(daemon);
  },
);

roomTest(
  "a container that should be stopped is killed with all its processes, paused or not",
  async (room) => {
    const daemon = await startWithImage(room);
    for (const id of ["plain", "paused"]) {
      await runDetached(daemon, id, { labels: [running], script: "sleep 1000 & exec sleep 1000" });
    }
    // Go containerd 1.6 starts paused ones anew.
    if (daemon.kind === "ours") await daemon.ctrOk(["t", "pause", "paused"]);
    for (const id of ["plain", "paused"]) {
      await daemon.ctrOk(["c", "label", id, `${label("status")}=stopped`]);
      await until(
        `the task of ${id} is gone`,
        async () => (await taskOf(daemon, id)) === undefined,
      );
    }
    await removeAll(daemon);
  },
);
