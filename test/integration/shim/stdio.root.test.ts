import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "node:test";
import { roomTest } from "#test/support/room.ts";
import { execSpec, makeBundle, runcOptions } from "./bundle.ts";
import { InputFifo, OutputFifo } from "./fifo.ts";
import { SupervisorFixture } from "./supervisor.ts";

const options = runcOptions({ binaryName: "runc" });

suite("streams of a task", () => {
  roomTest("input reaches the container and ends when the client says so", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const stdin = new InputFifo(room, "in");
    const stdout = new OutputFifo(room, "out");
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", "cat; echo end"] });
    await task.create(ctx, { id: "c1", bundle, options, stdin: stdin.path, stdout: stdout.path });
    await task.start(ctx, { id: "c1" });
    await stdin.write("line\n");
    await stdout.until((text) => text.includes("line\n"));
    // Without CloseIO the end of the client's own side is not the end: it may attach again.
    stdin.close();
    await task.closeIO(ctx, { id: "c1", stdin: true });
    assert.equal((await task.wait(ctx, { id: "c1" })).exitStatus, 0);
    await task.delete(ctx, { id: "c1" });
    assert.equal(await stdout.toEnd(), "line\nend\n");
  });

  roomTest("eight megabytes arrive whole", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const stdout = new OutputFifo(room, "out");
    const script = "head -c 8388608 /dev/zero | tr '\\0' x; echo; echo done";
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", script] });
    await task.create(ctx, { id: "c1", bundle, options, stdout: stdout.path });
    await task.start(ctx, { id: "c1" });
    await task.wait(ctx, { id: "c1" });
    await task.delete(ctx, { id: "c1" });
    const expected = `${"x".repeat(8_388_608)}\ndone\n`;
    const text = await stdout.toEnd();
    const hash = (value: string): string => createHash("sha256").update(value).digest("hex");
    assert.equal(text.length, expected.length);
    assert.equal(hash(text), hash(expected));
  });

  roomTest("a client that dies neither ends nor blocks the container", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const stdout = new OutputFifo(room, "out");
    const script = "echo one; read x </tmp/go; echo two; echo three >/tmp/after";
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", `mkfifo /tmp/go; ${script}`] });
    await task.create(ctx, { id: "c1", bundle, options, stdout: stdout.path });
    await task.start(ctx, { id: "c1" });
    await stdout.until((text) => text.includes("one"));
    stdout.abandon();
    await writeFile(join(bundle, "rootfs/tmp/go"), "\n");
    assert.equal((await task.wait(ctx, { id: "c1" })).exitStatus, 0);
    assert.equal(await readFile(join(bundle, "rootfs/tmp/after"), "utf8"), "three\n");
    await task.delete(ctx, { id: "c1" });
  });

  roomTest("a terminal has the size it is given, and echoes", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const stdin = new InputFifo(room, "in");
    const stdout = new OutputFifo(room, "out");
    const script = "read x; stty size; read x; stty size; exit 5";
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", script], terminal: true });
    const io = { stdin: stdin.path, stdout: stdout.path, terminal: true };
    await task.create(ctx, { id: "c1", bundle, options, ...io });
    await task.resizePty(ctx, { id: "c1", width: 101, height: 33 });
    await task.start(ctx, { id: "c1" });
    await stdin.write("a\n");
    await stdout.until((text) => text.includes("33 101"));
    await task.resizePty(ctx, { id: "c1", width: 80, height: 50 });
    await stdin.write("b\n");
    assert.equal((await task.wait(ctx, { id: "c1" })).exitStatus, 5);
    await task.delete(ctx, { id: "c1" });
    assert.equal(await stdout.toEnd(), "a\r\n33 101\r\nb\r\n50 80\r\n");
  });

  roomTest("what a terminal's process wrote last arrives, however much it is", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    for (const n of [1, 2, 3]) {
      const id = `c${n}`;
      const stdout = new OutputFifo(room, id);
      const script = "head -c 1000000 /dev/zero | tr '\\0' x; echo done";
      const bundle = makeBundle(room, id, { args: ["sh", "-c", script], terminal: true });
      await task.create(ctx, { id, bundle, options, stdout: stdout.path, terminal: true });
      await task.start(ctx, { id });
      await task.wait(ctx, { id });
      await task.delete(ctx, { id });
      const text = await stdout.toEnd();
      assert.equal(text.length, 1_000_006);
      assert.ok(text.endsWith("xdone\r\n"));
    }
  });

  roomTest(
    "an exec with a terminal ends for its client although a child keeps it",
    async (room) => {
      const shim = await SupervisorFixture.start(room);
      const { ctx, task } = shim;
      await task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
      await task.start(ctx, { id: "c1" });
      const stdout = new OutputFifo(room, "out");
      const spec = execSpec(["sh", "-c", "trap '' HUP; sleep 1000 & echo started; exit 3"]);
      const io = { stdout: stdout.path, terminal: true };
      await task.exec(ctx, { id: "c1", execId: "e1", spec, ...io });
      await task.start(ctx, { id: "c1", execId: "e1" });
      assert.equal((await task.wait(ctx, { id: "c1", execId: "e1" })).exitStatus, 3);
      assert.equal(await stdout.toEnd(), "started\r\n");
      await task.delete(ctx, { id: "c1", execId: "e1" });
      await shim.remove("c1");
    },
  );

  roomTest(
    "a background child that holds the output lets the client go at delete",
    async (room) => {
      const shim = await SupervisorFixture.start(room);
      const { ctx, task } = shim;
      await task.create(ctx, { id: "c1", bundle: makeBundle(room, "c1"), options });
      await task.start(ctx, { id: "c1" });
      const stdout = new OutputFifo(room, "out");
      const spec = execSpec(["sh", "-c", "sleep 1000 & echo started"]);
      await task.exec(ctx, { id: "c1", execId: "e1", spec, stdout: stdout.path });
      await task.start(ctx, { id: "c1", execId: "e1" });
      assert.equal((await task.wait(ctx, { id: "c1", execId: "e1" })).exitStatus, 0);
      await stdout.until((text) => text === "started\n");
      // After the ten seconds that upstream waits too.
      await task.delete(ctx, { id: "c1", execId: "e1" });
      assert.equal(await stdout.toEnd(), "started\n");
      await shim.remove("c1");
    },
  );

  roomTest("both outputs are appended to a file", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const log = join(room.dir, "logs/deep/c1.log");
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", "echo out; echo err >&2"] });
    await task.create(ctx, { id: "c1", bundle, options, stdout: `file://${log}` });
    await task.start(ctx, { id: "c1" });
    await task.wait(ctx, { id: "c1" });
    await task.delete(ctx, { id: "c1" });
    assert.deepEqual((await readFile(log, "utf8")).split("\n").toSorted(), ["", "err", "out"]);
  });

  roomTest("a logging program gets both outputs and the container's name", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const log = join(room.dir, "seen");
    const program = join(room.dir, "logger");
    const say = 'echo "$CONTAINER_NAMESPACE $CONTAINER_ID $1 $2"';
    const body = `exec 5>&-; { ${say}; cat <&3; cat <&4; } >${log}`;
    await writeFile(program, `#!/bin/sh\nPATH=/bin:/usr/bin\n${body}\n`, { mode: 0o755 });
    const bundle = makeBundle(room, "c1", { args: ["sh", "-c", "echo out; echo err >&2"] });
    await task.create(ctx, { id: "c1", bundle, options, stdout: `binary://${program}?key=value` });
    await task.start(ctx, { id: "c1" });
    await task.wait(ctx, { id: "c1" });
    await task.delete(ctx, { id: "c1" });
    assert.equal(await readFile(log, "utf8"), `${room.namespace} c1 key value\nout\nerr\n`);
  });

  roomTest("a logging program gets what a terminal shows, and its end", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const log = join(room.dir, "seen");
    const program = join(room.dir, "logger");
    const body = `exec 5>&-; { cat <&4; cat <&3; echo ended; } >${log}`;
    await writeFile(program, `#!/bin/sh\nPATH=/bin:/usr/bin\n${body}\n`, { mode: 0o755 });
    const args = ["sh", "-c", "read x; stty size; echo got $x"];
    const bundle = makeBundle(room, "c1", { args, terminal: true });
    const stdin = new InputFifo(room, "in");
    const io = { stdin: stdin.path, stdout: `binary://${program}`, terminal: true };
    await task.create(ctx, { id: "c1", bundle, options, ...io });
    await task.resizePty(ctx, { id: "c1", width: 80, height: 24 });
    await task.start(ctx, { id: "c1" });
    await stdin.write("a\n");
    await task.wait(ctx, { id: "c1" });
    await task.delete(ctx, { id: "c1" });
    assert.equal(await readFile(log, "utf8"), "a\r\n24 80\r\ngot a\r\nended\n");
  });

  roomTest("a logging program that dies takes no container with it", async (room) => {
    const shim = await SupervisorFixture.start(room);
    const { ctx, task } = shim;
    const program = join(room.dir, "logger");
    await writeFile(program, "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    const script = "head -c 300000 /dev/zero; echo >/tmp/after";
    for (const terminal of [false, true]) {
      const id = `c${terminal}`;
      // A pipe that nobody reads holds 64 KiB, so only what fits is written here.
      const args = ["sh", "-c", terminal ? script : script.replace("300000", "3000")];
      const bundle = makeBundle(room, id, { args, terminal });
      await task.create(ctx, { id, bundle, options, stdout: `binary://${program}`, terminal });
      await task.start(ctx, { id });
      assert.equal((await task.wait(ctx, { id })).exitStatus, 0);
      assert.equal(await readFile(join(bundle, "rootfs/tmp/after"), "utf8"), "\n");
      await task.delete(ctx, { id });
    }
    const strict = makeBundle(room, "strict", { args: ["true"] });
    await assert.rejects(
      task.create(ctx, { id: "strict", bundle: strict, options, stdout: `binary-v2://${program}` }),
      /logging binary did not call ready \(it may have crashed or exited prematurely\)/,
    );
  });

  roomTest(
    "limits, umask and signals inside are those of before Node",
    async (room) => {
      const shim = await SupervisorFixture.start(room, { CONTAINERD_NOFILE_SOFT: "777" });
      const { ctx, task } = shim;
      const stdout = new OutputFifo(room, "out");
      const script =
        "ulimit -Sn; umask; grep -E 'SigBlk|SigIgn' /proc/self/status; ls /proc/self/fd";
      const bundle = makeBundle(room, "c1", {
        args: ["sh", "-c", script.replace("grep", "busybox grep").replace("ls", "busybox ls")],
      });
      await task.create(ctx, {
        id: "c1",
        bundle,
        options: runcOptions({ binaryName: "crun" }),
        stdout: stdout.path,
      });
      await task.start(ctx, { id: "c1" });
      await task.wait(ctx, { id: "c1" });
      await task.delete(ctx, { id: "c1" });
      const lines = (await stdout.toEnd()).trim().split("\n");
      assert.deepEqual(lines, [
        "777",
        "0022",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "0",
        "1",
        "2",
        "3",
      ]);
    },
    { needs: ["crun"] },
  );
});
