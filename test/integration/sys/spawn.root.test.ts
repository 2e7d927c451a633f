import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { O, RLIMIT } from "#pkg/sys/constants.ts";
import { isSyscallError } from "#pkg/sys/errno.ts";
import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { type SpawnOptions, spawnProcess } from "#pkg/sys/spawn.ts";
import type { ExitStatus } from "#pkg/sys/syscall.ts";

const reaper = new Reaper({ sys: linux, mode: "known" });
let dir = "";
let files = 0;

before(() => {
  dir = mkdtempSync(join(tmpdir(), "sys-spawn-"));
});

after(() => {
  reaper.close();
  rmSync(dir, { recursive: true });
});

/** Runs a shell script with its output in a file, and stdin from nowhere. */
async function shell(
  script: string,
  options: Partial<SpawnOptions> = {},
): Promise<{ output: string; status: ExitStatus }> {
  const file = join(dir, `out-${files++}`);
  const nowhere = openSync("/dev/null", "r");
  const out = openSync(file, "w");
  try {
    const { pid } = spawnProcess({
      path: "/bin/sh",
      argv: ["sh", "-c", script],
      env: { PATH: "/usr/bin:/bin" },
      fds: [nowhere, out, out],
      ...options,
    });
    const status = await reaper.wait(pid);
    return { output: readFileSync(file, "utf8").trim(), status };
  } finally {
    closeSync(nowhere);
    closeSync(out);
  }
}

test("exit code, environment, directory and arguments are those given", async () => {
  const { output, status } = await shell("", {
    env: { PATH: "/bin", A: "ä b" },
    cwd: dir,
    argv: ["sh", "-c", 'echo "$A|${HOME-none}|$(pwd)|$0|$1"; exit 5', "zero", "o n e"],
  });
  assert.equal(output, `ä b|none|${dir}|zero|o n e`);
  assert.deepEqual(status, { code: 5 });
});

test("death by a signal is told apart from an exit code", async () => {
  const { status } = await shell("kill -KILL $$");
  assert.deepEqual(status, { signal: 9 });
});

test("no signal is blocked or ignored, while Node itself ignores SIGPIPE", async () => {
  const own = readFileSync("/proc/self/status", "utf8");
  assert.notEqual(/^SigIgn:\s*(\w+)/m.exec(own)?.[1], "0000000000000000");
  const { output } = await shell("grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -s '\\t\\n' ' '");
  assert.equal(output, "SigBlk: 0000000000000000 SigIgn: 0000000000000000");
});

test("the child has its descriptors only, whatever ours inherit", async () => {
  const leaky = openSync("/dev/zero", "r");
  linux.setCloseOnExec(leaky, "off");
  try {
    // ls itself has one for the directory.
    const { output } = await shell("ls /proc/self/fd | wc -l");
    assert.equal(output, "4");
  } finally {
    closeSync(leaky);
  }
});

test("descriptors may cross, and a source may be its own target", async () => {
  const names = [0, 1, 2].map((i) => join(dir, `cross-${i}`));
  const saved = [0, 1, 2].map((fd) => linux.dup(fd, 100));
  const opened = names.map((name) => openSync(name, "w"));
  try {
    for (const [i, fd] of opened.entries()) linux.dup3(fd, i);
    // 0 <- 2, 1 <- 1, 2 <- 0: written before the assertions so that our own descriptors are back by
    // then.
    const script = "echo zero >&0; echo one >&1; echo two >&2";
    const options = { path: "/bin/sh", argv: ["sh", "-c", script], env: {}, fds: [2, 1, 0] };
    let pid = 0;
    try {
      pid = spawnProcess(options).pid;
    } finally {
      for (const [i, fd] of saved.entries()) linux.dup3(fd, i);
    }
    assert.deepEqual(await reaper.wait(pid), { code: 0 });
    const contents = names.map((name) => readFileSync(name, "utf8"));
    assert.deepEqual(contents, ["two\n", "one\n", "zero\n"]);
  } finally {
    for (const fd of [...saved, ...opened]) linux.close(fd);
    for (const fd of [0, 1, 2]) linux.setCloseOnExec(fd, "off");
  }
});

test("the soft limit of descriptors is the one asked for, and ours stays", async () => {
  const own = linux.prlimit(0, RLIMIT.NOFILE);
  const { output } = await shell("ulimit -Sn; ulimit -Hn", { nofileSoft: 777 });
  assert.equal(output, `777\n${own.hard}`);
  assert.deepEqual(linux.prlimit(0, RLIMIT.NOFILE), own);
});

test("a soft limit above the hard one is the hard one", async () => {
  const { hard } = linux.prlimit(0, RLIMIT.NOFILE);
  const { output } = await shell("ulimit -Sn", { nofileSoft: Number(hard) * 2 });
  assert.equal(output, String(hard));
});

test("the soft limit holds too while this process has more descriptors than it", async () => {
  const many = Array.from({ length: 300 }, () => openSync("/dev/null", "r"));
  try {
    const argv = ["sh", "-c", 'ulimit -Sn; echo "$1|$A"; exit 3', "zero", "o n e"];
    const { output, status } = await shell("", { argv, env: { A: "b" }, nofileSoft: 256 });
    assert.equal(output, "256\no n e|b");
    assert.deepEqual(status, { code: 3 });
    const missing = { path: join(dir, "missing"), argv: ["x"], env: {}, fds: [], nofileSoft: 256 };
    assert.throws(() => spawnProcess(missing), { errno: "ENOENT" });
  } finally {
    for (const fd of many) closeSync(fd);
  }
});

test("a failed start says why, leaves no zombie and no descriptor", () => {
  const before = linux.fstatat(-100, "/proc/self/fd", 0).sizeBytes;
  const missing = join(dir, "missing");
  const options = { path: missing, argv: ["x"], env: {}, fds: [0, 1, 2], nofileSoft: 500 };
  assert.throws(() => spawnProcess(options), {
    message: `fork/exec ${missing}: no such file or directory`,
  });
  assert.throws(() => spawnProcess({ ...options, path: dir }), { errno: "EACCES" });
  assert.throws(() => spawnProcess({ ...options, argv: ["a\0b"] }), { errno: "EINVAL" });
  assert.equal(linux.fstatat(-100, "/proc/self/fd", 0).sizeBytes, before);
  assert.throws(
    () => linux.waitpid(-1),
    (error) => isSyscallError(error, "ECHILD"),
  );
});

test("setsid and setpgid make the child a leader", async () => {
  // Fields 5 and 6 of stat: process group and session.
  const script = 'set -- $(cat /proc/$$/stat); echo "$5 $6 $$"';
  const group = (await shell(script, { setpgid: true })).output.split(" ");
  assert.equal(group[0], group[2]);
  assert.notEqual(group[1], group[2]);
  const session = (await shell(script, { setsid: true })).output.split(" ");
  assert.deepEqual([session[0], session[1]], [session[2], session[2]]);
});

test("Node's own child_process beside it loses no exit", async () => {
  const theirs = Array.from({ length: 20 }, (_, i) =>
    once(spawn("/bin/sh", ["-c", `exit ${i}`], { stdio: "ignore" }), "exit"),
  );
  const ours = Array.from({ length: 20 }, (_, i) => shell(`exit ${i}`));
  assert.deepEqual(
    await Promise.all(theirs),
    theirs.map((_, i) => [i, null]),
  );
  assert.deepEqual(
    (await Promise.all(ours)).map(({ status }) => status.code),
    ours.map((_, i) => i),
  );
});

test("many at once: every exit arrives with its own code", async () => {
  const nowhere = openSync("/dev/null", O.RDWR);
  try {
    const codes = Array.from({ length: 60 }, (_, i) => i);
    const waits = codes.map((code) => {
      const argv = ["sh", "-c", `exit ${code}`];
      const fds = [nowhere, nowhere, nowhere];
      return reaper.wait(spawnProcess({ path: "/bin/sh", argv, env: {}, fds }).pid);
    });
    assert.deepEqual(
      (await Promise.all(waits)).map((status) => status.code),
      codes,
    );
  } finally {
    closeSync(nowhere);
  }
});
