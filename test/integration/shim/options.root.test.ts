import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commandPath } from "#test/support/needs.ts";
import { roomTest } from "#test/support/room.ts";
import { makeBundle, runcOptions } from "./bundle.ts";
import { OutputFifo } from "./fifo.ts";
import { SupervisorFixture } from "./supervisor.ts";

roomTest(
  "what a client says about the runtime reaches it, and the owner of its streams",
  async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const binaryName = join(room.dir, "runtime");
    const calls = join(room.dir, "calls");
    const program = `#!/bin/sh\necho "$@" >> ${calls}\nexec ${commandPath("runc")} "$@"\n`;
    writeFileSync(binaryName, program, { mode: 0o755 });
    const root = join(room.dir, "runtime-root");
    const owner = { ioUid: 1234, ioGid: 5678 };
    const options = runcOptions({ binaryName, root, noNewKeyring: true, ...owner });
    const script = "stat -Lc %u:%g /proc/self/fd/1 /proc/self/fd/2";
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", script] });
    const stdout = new OutputFifo(room, "out");
    await task.create(ctx, { id: "c1", bundle, options, stdout: stdout.path, stderr: stdout.path });
    await task.start(ctx, { id: "c1" });
    await task.wait(ctx, { id: "c1" });
    await task.delete(ctx, { id: "c1" });
    // The user is the process's own again: runc sees to that.
    assert.equal(await stdout.toEnd(), "0:5678\n0:5678\n");
    const lines = readFileSync(calls, "utf8").trim().split("\n");
    const created = lines.find((line) => / create /.test(line)) ?? "";
    assert.match(created, /--no-new-keyring c1$/);
    assert.doesNotMatch(created, /--no-pivot|--systemd-cgroup/);
    const rooted = lines.filter((line) => !line.startsWith("--version"));
    const start = `--root ${join(root, room.namespace)} --log ${join(bundle, "log.json")}`;
    for (const line of rooted) assert.ok(line.startsWith(`${start} --log-format json `), line);
  },
  { needs: ["runc"] },
);
