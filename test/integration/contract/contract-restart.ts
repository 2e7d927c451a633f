import assert from "node:assert/strict";
import { inputFifo, outputFifo, shell, untilText } from "#test/integration/tasks/harness.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { type ContractTest, refuses } from "./contract-test.ts";

/** What holds when the daemon is killed while tasks run, and started again. */
export const restartTests: readonly ContractTest[] = [
  [
    "tasks, execs, output and waits go on over the daemon's death",
    async (client) => {
      const { ctx, room } = client;
      const stdin = inputFifo(room, "lives-in");
      const stdout = outputFifo(room, "lives-out");
      const stderr = outputFifo(room, "lives-err");
      const echo = 'while read -r line; do [ "$line" = end ] && exit 5; echo "got $line"; done';
      const io = { stdin: stdin.path, stdout: stdout.path, stderr: stderr.path };
      const pid = await client.create("lives", shell(echo), io);
      const { say } = stdin.open();
      await client.tasks.start(ctx, { containerId: "lives" });
      await client.exec("lives", "e1", shell("sleep 1000"));
      await client.tasks.start(ctx, { containerId: "lives", execId: "e1" });
      await client.create("waits", shell("exit 6"));
      say("one\n");
      await untilText(stdout, /got one\n$/);
      await client.restartDaemon(async () => {
        say("two\n");
        await untilText(stdout, /got two\n$/);
      });
      const { process } = await client.tasks.get(ctx, { containerId: "lives" });
      assert.deepEqual([process?.pid, process?.stdout], [pid, stdout.path]);
      assert.equal(await client.status("lives"), "running");
      assert.equal(await client.status("lives", "e1"), "running");
      assert.equal(await client.status("waits"), "created");
      await client.tasks.start(ctx, { containerId: "waits" });
      assert.equal((await client.tasks.wait(ctx, { containerId: "waits" })).exitStatus, 6);
      assert.equal(await client.delete("waits"), 6);
      const execExit = client.tasks.wait(ctx, { containerId: "lives", execId: "e1" });
      await client.tasks.kill(ctx, { containerId: "lives", execId: "e1", signal: 9 });
      assert.equal((await execExit).exitStatus, 137);
      await client.tasks.deleteProcess(ctx, { containerId: "lives", execId: "e1" });
      const exit = client.tasks.wait(ctx, { containerId: "lives" });
      say("three\n");
      await untilText(stdout, /got three\n$/);
      say("end\n");
      assert.equal((await exit).exitStatus, 5);
      assert.equal(await client.delete("lives"), 5);
      await client.assertTold("lives", [
        "create",
        "start",
        "exec-added e1",
        "exec-started e1",
        "exit e1 137",
        "exit 5",
        "delete",
      ]);
    },
  ],
];

/** Go's daemon takes a shim without a process for one whose task never came to be, and ends it. */
export const oursAloneTests: readonly ContractTest[] = [
  [
    "what ended while there was no daemon keeps its status for the next",
    async (client) => {
      const { ctx, room } = client;
      const stdin = inputFifo(room, "alone-in");
      const stdout = outputFifo(room, "alone-out");
      const stderr = outputFifo(room, "alone-err");
      const io = { stdin: stdin.path, stdout: stdout.path, stderr: stderr.path };
      const pid = await client.create("alone", shell("read -r status; exit $status"), io);
      const { say } = stdin.open();
      await client.tasks.start(ctx, { containerId: "alone" });
      await client.restartDaemon(async () => {
        say("8\n");
        await until("the process is gone", async () => (await processInfo(pid)) === undefined);
      });
      assert.equal(await client.status("alone"), "stopped");
      assert.equal((await client.tasks.wait(ctx, { containerId: "alone" })).exitStatus, 8);
      const kill = client.tasks.kill(ctx, { containerId: "alone", signal: 9 });
      await refuses(kill, "not-found", "process already finished: not found");
      assert.equal(await client.delete("alone"), 8);
    },
  ],
];
