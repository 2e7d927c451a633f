import assert from "node:assert/strict";
import type { TaskClient } from "#test/integration/contract/task-client.ts";
import {
  inputFifo,
  outputFifo,
  rootfsMounts,
  shell,
  untilText,
} from "#test/integration/tasks/harness.ts";

/** One way for a container to come and go, everything of it included. */
type Life = (client: TaskClient, id: string) => Promise<void>;

const sleeper = shell("sleep 1000");

const lives: readonly Life[] = [
  async (client, id) => {
    await client.create(id, shell("exit 3"));
    const exit = client.tasks.wait(client.ctx, { containerId: id });
    await client.tasks.start(client.ctx, { containerId: id });
    assert.equal((await exit).exitStatus, 3);
    assert.equal(await client.delete(id), 3);
  },
  async (client, id) => {
    using stdout = outputFifo(client.room, `${id}-out`);
    using stderr = outputFifo(client.room, `${id}-err`);
    const io = { stdout: stdout.path, stderr: stderr.path };
    await client.run(id, shell("echo one; echo two >&2"), io);
    await client.tasks.wait(client.ctx, { containerId: id });
    await untilText(stdout, /^one\n$/);
    await untilText(stderr, /^two\n$/);
    assert.equal(await client.delete(id), 0);
  },
  async (client, id) => {
    await client.run(id, sleeper);
    await client.exec(id, "e1", shell("exit 4"));
    const exit = client.tasks.wait(client.ctx, { containerId: id, execId: "e1" });
    await client.tasks.start(client.ctx, { containerId: id, execId: "e1" });
    assert.equal((await exit).exitStatus, 4);
    await client.tasks.deleteProcess(client.ctx, { containerId: id, execId: "e1" });
    // One that its container takes along, and that nobody deletes.
    await client.exec(id, "e2", sleeper);
    await client.tasks.start(client.ctx, { containerId: id, execId: "e2" });
    assert.equal(await client.remove(id), 137);
  },
  async (client, id) => {
    using stdout = outputFifo(client.room, `${id}-out`);
    const stdin = inputFifo(client.room, `${id}-in`);
    const io = { stdin: stdin.path, stdout: stdout.path, terminal: true };
    await client.create(id, ["/bin/busybox", "sh"], io);
    const { say, close } = stdin.open();
    await client.tasks.start(client.ctx, { containerId: id });
    say("exit 5\n");
    assert.equal((await client.tasks.wait(client.ctx, { containerId: id })).exitStatus, 5);
    assert.equal(await client.delete(id), 5);
    close();
  },
  async (client, id) => {
    await client.create(id, sleeper);
    await client.delete(id);
  },
  async (client, id) => {
    await client.record(id, ["/no/such/program"]);
    const rootfs = rootfsMounts(client.room);
    const create = client.tasks.create(client.ctx, { containerId: id, rootfs });
    await assert.rejects(create, /\/no\/such\/program/);
    await client.containers.delete(client.ctx, { id });
  },
  async (client, id) => {
    await client.run(id, sleeper);
    await client.tasks.pause(client.ctx, { containerId: id });
    await client.tasks.resume(client.ctx, { containerId: id });
    assert.equal(await client.remove(id), 137);
  },
];

/** Lets containers come and go, `width` at a time, in every way there is. */
export async function churn(
  client: TaskClient,
  {
    count,
    width = 4,
    prefix = "c",
    progress,
  }: { count: number; width?: number; prefix?: string; progress?: (done: number) => Promise<void> },
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const n = next;
      next += 1;
      await lives[n % lives.length]?.(client, `${prefix}${n}`);
      client.events.length = 0;
      await progress?.(n + 1);
    }
  };
  const results = await Promise.allSettled(Array.from({ length: width }, worker));
  const failure = results.find((result) => result.status === "rejected");
  if (failure) throw failure.reason;
}
