import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { O } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import { fdStream } from "#pkg/sys/fifo.ts";
import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import type { Fd } from "#pkg/sys/syscall.ts";

// No room and no test reaper here: this process collects its children itself, all of them.
let reaper: Reaper;
let nowhere: Fd = -1;
let dir = "";

before(() => {
  linux.setChildSubreaper("on");
  reaper = new Reaper({ sys: linux, mode: "all" });
  nowhere = openSync("/dev/null", O.RDWR);
  dir = mkdtempSync(join(tmpdir(), "sys-reaper-"));
});

after(() => {
  reaper.close();
  closeSync(nowhere);
  rmSync(dir, { recursive: true });
});

function shell(script: string, fds: readonly Fd[] = [nowhere, nowhere, nowhere]): number {
  const env = { PATH: "/usr/bin:/bin" };
  return spawnProcess({ path: "/bin/sh", argv: ["sh", "-c", script], env, fds }).pid;
}

let files = 0;

/**
 * Runs a script that prints pids, until it has ended. What it leaves behind can wait for `gate`,
 * its descriptor 3.
 */
async function printed(script: string, gate: Fd = nowhere): Promise<number[]> {
  const file = join(dir, `pids-${files++}`);
  const out = openSync(file, "w");
  const pid = shell(script, [nowhere, out, nowhere, gate]);
  closeSync(out);
  await reaper.wait(pid);
  return readFileSync(file, "utf8").split("\n").filter(Boolean).map(Number);
}

function children(): string[] {
  return readdirSync("/proc/self/task").flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, "utf8").split(" ").filter(Boolean),
  );
}

function exists(pid: number): boolean {
  try {
    linux.kill(pid, 0);
    return true;
  } catch (error) {
    if (isSyscallError(error, "ESRCH")) return false;
    throw error;
  }
}

test("an orphan that is re-parented to us is awaited, by its code or its signal", async () => {
  const [held] = await printed("sleep 60 >/dev/null & echo $!");
  assert.ok(held !== undefined);
  const waiting = reaper.wait(held);
  linux.kill(held, 9);
  assert.deepEqual(await waiting, { signal: 9 });
});

test("an orphan that ended before anyone asked is known", async () => {
  const mark = reaper.mark();
  // It ends only once its own parent has gone, which would collect it otherwise.
  const gate = linux.pipe2(0);
  const [early] = await printed("(read -r _ <&3; exit 7) & echo $!", gate.read);
  assert.ok(early !== undefined);
  for (const fd of [gate.read, gate.write]) linux.close(fd);
  while (exists(early)) await new Promise((r) => setImmediate(r));
  assert.deepEqual(await reaper.wait(early, { after: mark }), { code: 7 });
});

test("a process may be awaited before it is ours", async () => {
  const pipe = linux.pipe2(0);
  const file = join(dir, "init");
  const out = openSync(file, "w");
  // The parent waits for its stdin to end, and only then leaves the child to us.
  const script = "sleep 60 >/dev/null & echo $!; read -r _";
  const parent = shell(script, [pipe.read, out, nowhere]);
  closeSync(out);
  linux.close(pipe.read);
  while (readFileSync(file, "utf8") === "") await new Promise((r) => setImmediate(r));
  const pid = Number(readFileSync(file, "utf8"));
  const waiting = reaper.wait(pid);
  linux.close(pipe.write);
  await reaper.wait(parent);
  linux.kill(pid, 15);
  assert.deepEqual(await waiting, { signal: 15 });
});

test("a storm of orphans and children: every exit is known with its own code", async () => {
  const gate = linux.pipe2(0);
  const codes = Array.from({ length: 10 }, (_, i) => i + 1);
  const script = codes.map((code) => `(read -r _ <&3; exit ${code}) & echo $!`).join("; ");
  const pids = await Promise.all(Array.from({ length: 20 }, () => printed(script, gate.read)));
  const own = codes.map((code) => reaper.wait(shell(`exit ${code}`)));
  for (const fd of [gate.read, gate.write]) linux.close(fd);
  const ended = await Promise.all(pids.flat().map((pid) => reaper.wait(pid)));
  assert.equal(ended.length, 200);
  assert.deepEqual(
    ended.map((status) => status.code),
    pids.flatMap(() => codes),
  );
  assert.deepEqual(
    (await Promise.all(own)).map((status) => status.code),
    codes,
  );
});

test("nothing is left as a zombie, asked for or not", async () => {
  await printed("for i in 1 2 3 4 5; do (exit $i) & done; echo 1");
  while (children().length > 0) await new Promise((r) => setImmediate(r));
});

test("a pidfd tells the exit of a process that is reaped already", async (t) => {
  const pipe = linux.pipe2(0);
  const pid = shell("read -r _; exit 42", [pipe.read, nowhere, nowhere]);
  linux.close(pipe.read);
  const pidfd = linux.pidfdOpen(pid);
  assert.equal(linux.pidfdGetInfo(pidfd).pid, pid);
  linux.close(pipe.write);
  assert.deepEqual(await reaper.wait(pid), { code: 42 });
  try {
    assert.deepEqual(linux.pidfdGetInfo(pidfd), { pid: 0, ppid: 0, exit: { code: 42 } });
    assert.throws(() => linux.pidfdSendSignal(pidfd, 0), { errno: "ESRCH" });
  } catch (error) {
    if (!isSyscallError(error, "ESRCH", "ENOTTY")) throw error;
    t.skip("needs Linux 6.15");
  } finally {
    linux.close(pidfd);
  }
});

test("the event loop ends with a reaper, but not while somebody waits", async () => {
  const pipe = linux.pipe2(0);
  const module = new URL("../../../src/pkg/sys/", import.meta.url).href;
  const program = `
    import { linux } from "${module}linux.ts";
    import { Reaper } from "${module}reaper.ts";
    import { spawnProcess } from "${module}spawn.ts";
    const reaper = new Reaper({ sys: linux, mode: "known" });
    const argv = ["sh", "-c", "sleep 0.1; exit 4"];
    const { pid } = spawnProcess({ path: "/bin/sh", argv, env: {}, fds: [0, 2, 2] });
    console.log((await reaper.wait(pid)).code);`;
  const argv = [process.execPath, "--input-type=module", "-e", program];
  const { pid } = spawnProcess({
    path: process.execPath,
    argv,
    env: { PATH: "/bin:/usr/bin" },
    fds: [nowhere, pipe.write, 2],
  });
  linux.close(pipe.write);
  const output = fdStream(pipe.read, "read").setEncoding("utf8");
  const chunks = await output.toArray();
  assert.deepEqual([chunks.join(""), await reaper.wait(pid)], ["4\n", { code: 0 }]);
});
