import assert from "node:assert/strict";
import { join } from "node:path";
import { suite } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startDaemon } from "#test/support/daemon.ts";
import { roomTest } from "#test/support/room.ts";
import { makeRootfs, ownRuntimeRoot } from "./bundle.ts";
import { shimPath } from "./supervisor.ts";

suite("as the shim of Go's containerd 1.6", () => {
  roomTest("a run, an exec, a pause and a kill are what they are with Go's shim", async (room) => {
    ownRuntimeRoot(room);
    const daemon = await startDaemon(room, { kind: "go", softOpenFiles: 1024 });
    const ctr: Ctr = async (...args) => {
      const { code, stdout } = await daemon.ctr(args);
      return { code, stdout };
    };
    const rootfs = makeRootfs(room, join(room.dir, "rootfs"));
    const ours = await script(ctr, shimPath, rootfs);
    const theirs = await script(ctr, "io.containerd.runc.v2", rootfs);
    assert.deepEqual(ours, theirs);
    assert.deepEqual(ours.slice(0, 2), [
      { code: 3, stdout: "hello\n1024\n0022\n" },
      { code: 0, stdout: "" },
    ]);
  });
});

type Ctr = (...args: string[]) => Promise<{ code: number; stdout: string }>;

async function script(ctr: Ctr, runtime: string, rootfs: string): Promise<unknown[]> {
  const flags = ["--env", "PATH=/bin", "--rootfs", "--runtime", runtime, rootfs];
  const seen: unknown[] = [];
  const say = "echo hello; ulimit -Sn; umask; exit 3";
  seen.push(await ctr("run", "--rm", ...flags, "one", "sh", "-c", say));
  seen.push(await ctr("run", "-d", ...flags, "two", "sleep", "1000"));
  seen.push(await statusOf(ctr, "two"));
  const exec = ["t", "exec", "--exec-id"];
  seen.push(await ctr(...exec, "e1", "two", "sh", "-c", "echo in exec; exit 5"));
  seen.push(await ctr(...exec, "e2", "two", "/no/such/program").then(({ code }) => code));
  seen.push(await ctr("t", "pause", "two"), await statusOf(ctr, "two"));
  seen.push(await ctr("t", "resume", "two"), await statusOf(ctr, "two"));
  seen.push(await ctr("t", "kill", "-s", "KILL", "two"));
  while ((await statusOf(ctr, "two")) !== "STOPPED") await sleep(20);
  seen.push(await ctr("t", "rm", "two").then(({ code }) => code));
  seen.push(await ctr("c", "rm", "two"), await ctr("t", "ls", "-q"));
  return seen;
}

async function statusOf(ctr: Ctr, id: string): Promise<string | undefined> {
  const { stdout } = await ctr("t", "ls");
  const line = stdout.split("\n").find((row) => row.startsWith(`${id} `));
  return line?.trim().split(/\s+/).at(-1);
}
