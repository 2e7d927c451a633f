import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ProgramRequest } from "#core/runtime/program.ts";
import { SpawnedPrograms } from "#core/runtime/spawned-programs.ts";
import { Context } from "#pkg/context.ts";
import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { openFilesOf, processInfo, until } from "#test/support/processes.ts";
import { type Room, roomTest } from "#test/support/room.ts";

const ctx = Context.background();

function programsOf(room: Room): SpawnedPrograms {
  const reaper = room.resources.use(new Reaper({ sys: linux, mode: "known" }));
  return new SpawnedPrograms({ sys: linux, spawn: spawnProcess, reaper });
}

function script(text: string, more: Partial<ProgramRequest> = {}): ProgramRequest {
  return {
    path: "/bin/sh",
    args: ["-c", text],
    env: { PATH: "/usr/bin:/bin" },
    cwd: "/",
    stdin: new Uint8Array(),
    stderr: "apart",
    ...more,
  };
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

roomTest(
  "run() gives a program its input, environment and directory, and reads both outputs",
  async (room) => {
    const programs = programsOf(room);
    const before = await openFilesOf(process.pid);
    const result = await programs.run(
      ctx,
      script('cat; echo "$A $(pwd)"; echo bad >&2; exit 3', {
        env: { PATH: "/usr/bin:/bin", A: "b" },
        cwd: room.dir,
        stdin: Buffer.from("input\n"),
      }),
    );
    assert.deepEqual(
      [result.failure, text(result.stdout), text(result.stderr)],
      ["exit status 3", `input\nb ${room.dir}\n`, "bad\n"],
    );
    const merged = await programs.run(
      ctx,
      script("echo one; echo two >&2", { stderr: "with-stdout" }),
    );
    assert.deepEqual([merged.failure, text(merged.stdout)], ["", "one\ntwo\n"]);
    await until("the pipes are closed", async () => {
      return (await openFilesOf(process.pid)).length <= before.length;
    });
  },
);

roomTest(
  "run() is not held up by a descendant that keeps the pipes, nor by unread input",
  async (room) => {
    const programs = programsOf(room);
    const pidFile = join(room.dir, "pid");
    const result = await programs.run(
      ctx,
      script(`sleep 1000 & echo $! > ${pidFile}; echo done`, { stdin: Buffer.alloc(1 << 20) }),
    );
    assert.deepEqual([result.failure, text(result.stdout)], ["", "done\n"]);
    const left = Number(await readFile(pidFile, "utf8"));
    linux.kill(left, 9);
  },
);

roomTest("run() keeps the first mebibyte of an output that does not end", async (room) => {
  const result = await programsOf(room).run(ctx, script("head -c 5000000 /dev/zero"));
  assert.deepEqual([result.failure, result.stdout.length], ["", 1 << 20]);
});

roomTest("run() kills the whole group when its caller's time is over", async (room) => {
  const programs = programsOf(room);
  const pidFile = join(room.dir, "pid");
  const controller = new AbortController();
  const running = programs.run(
    ctx.withSignal(controller.signal),
    script(`sleep 1000 & echo $! > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; wait`),
  );
  let child = 0;
  await until("the program has a child", async () => {
    child = Number(await readFile(pidFile, "utf8").catch(() => "0"));
    return child > 0;
  });
  controller.abort();
  assert.equal((await running).failure, "signal: killed");
  await until("its child is gone", async () => (await processInfo(child)) === undefined);
});

roomTest("run() says that a program cannot be started", async (room) => {
  const programs = programsOf(room);
  await assert.rejects(
    programs.run(ctx, script("", { path: "/no/such/program" })),
    /fork\/exec \/no\/such\/program: no such file or directory/,
  );
  const plain = join(room.dir, "plain");
  await writeFile(plain, "");
  await assert.rejects(programs.run(ctx, script("", { path: plain })), /permission denied/);
});

roomTest(
  "launch() gives a session of its own, descriptors, and what was announced before the output closed",
  async (room) => {
    const programs = programsOf(room);
    const inherited = linux.pipe2(0);
    room.resources.defer(() => linux.close(inherited.read));
    writeSync(inherited.write, "inherited\n");
    linux.close(inherited.write);
    const program = programs.launch({
      path: "/bin/sh",
      args: [
        "-c",
        "read -r a; read -r b <&3; echo ready $a $b; exec >/dev/null; exec sleep 1000 3<&-",
      ],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      stdin: Buffer.from("told\n"),
      fds: [inherited.read],
    });
    assert.equal(await program.announcement, "ready told inherited\n");
    const stat = await readFile(`/proc/${program.pid}/stat`, "utf8");
    const [, parent, , session] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    assert.deepEqual([parent, session], [process.pid, program.pid]);
    program.kill();
    assert.equal(await program.exited, "signal: killed");
    program.kill();
  },
);
