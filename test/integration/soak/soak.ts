import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { codeOf, messageOf } from "#pkg/errors.ts";
import { Random } from "#test/crash/random.ts";
import type { TaskClient } from "#test/integration/contract/task-client.ts";
import { shell } from "#test/integration/tasks/harness.ts";
import { processInfo, until } from "#test/support/processes.ts";
import { holdingsOf, supervisorPids } from "./holdings.ts";
import { type ModelExec, type ModelTask, type Operation, operations, stop } from "./model.ts";

const tasksMax = 6;
const execsMax = 3;
const sleeper = shell("sleep 100000");
const resourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/**
 * Does what a random stream says to a few tasks, and compares after each operation what the service tells and what the
 * machine holds with a model that knows the rules alone.
 */
export class Soak {
  readonly #client: TaskClient;
  readonly #seed: number;
  readonly #random: Random;
  readonly #tasks = new Map<string, ModelTask>();
  #serial = 0;
  readonly log: string[] = [];

  constructor(client: TaskClient, seed: number) {
    this.#client = client;
    this.#seed = seed;
    this.#random = new Random(seed);
  }

  /** One operation and the check after it. */
  async step(): Promise<void> {
    const operation = this.#oneOf(operations) ?? "create";
    try {
      await this.#perform(operation);
      await this.#check();
    } catch (error) {
      const last = this.log.slice(-12).join("\n  ");
      throw new Error(`seed ${this.#seed}, after\n  ${last}\n${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Removes all tasks. */
  async finish(): Promise<void> {
    for (const task of this.#tasks.values()) {
      if (task.status === "paused") await this.#resume(task);
      if (task.status !== "stopped") await this.#kill(task);
      await this.#delete(task);
    }
    await this.#check();
  }

  #oneOf<T>(items: readonly T[]): T | undefined {
    return items[this.#random.below(items.length)];
  }

  async #perform(operation: Operation): Promise<void> {
    switch (operation) {
      case "create":
        return this.#tasks.size < tasksMax ? this.#create() : undefined;
      case "restart-daemon":
        return this.#restartDaemon();
      case "kill-supervisor":
        return this.#killSupervisor();
      default: {
        const task = this.#oneOf([...this.#tasks.values()]);
        if (task) await this.#performOn(task, operation);
      }
    }
  }

  async #performOn(task: ModelTask, operation: Operation): Promise<void> {
    const is = (...statuses: ModelTask["status"][]): boolean => statuses.includes(task.status);
    if (operation.startsWith("exec")) return this.#performOnExec(task, operation);
    if (operation === "start" && is("created")) return this.#start(task);
    if (operation === "kill" && is("created", "running")) return this.#kill(task);
    if (operation === "end" && is("running")) return this.#end(task);
    if (operation === "delete" && is("stopped")) return this.#delete(task);
    if (operation === "pause" && is("running")) return this.#pause(task);
    if (operation === "resume" && is("paused")) return this.#resume(task);
    if (operation === "update" && is("running", "paused")) return this.#update(task);
    if (operation === "refused") return this.#refused(task);
  }

  async #create(): Promise<void> {
    this.#serial += 1;
    const id = `s${this.#serial}`;
    this.log.push(`create ${id}`);
    const pid = await this.#client.create(id, sleeper);
    const told = ["create"];
    this.#tasks.set(id, { id, pid, status: "created", exitStatus: 0, execs: new Map(), told });
  }

  async #start(task: ModelTask): Promise<void> {
    this.log.push(`start ${task.id}`);
    const { pid } = await this.#client.tasks.start(this.#client.ctx, { containerId: task.id });
    assert.equal(pid, task.pid);
    task.status = "running";
    task.told.push("start");
  }

  async #kill(task: ModelTask): Promise<void> {
    this.log.push(`kill ${task.id}`);
    const { ctx, tasks } = this.#client;
    const exit = tasks.wait(ctx, { containerId: task.id });
    await tasks.kill(ctx, { containerId: task.id, signal: 9 });
    assert.equal((await exit).exitStatus, 137);
    stop(task, 137);
  }

  /** The process dies by itself as far as shim and daemon know. */
  async #end(task: ModelTask): Promise<void> {
    this.log.push(`end ${task.id}`);
    process.kill(task.pid, "SIGKILL");
    const { ctx, tasks } = this.#client;
    assert.equal((await tasks.wait(ctx, { containerId: task.id })).exitStatus, 137);
    stop(task, 137);
  }

  async #delete(task: ModelTask): Promise<void> {
    this.log.push(`delete ${task.id}`);
    assert.equal(await this.#client.delete(task.id), task.exitStatus);
    this.#tasks.delete(task.id);
  }

  async #pause(task: ModelTask): Promise<void> {
    this.log.push(`pause ${task.id}`);
    await this.#client.tasks.pause(this.#client.ctx, { containerId: task.id });
    task.status = "paused";
    task.told.push("paused");
  }

  async #resume(task: ModelTask): Promise<void> {
    this.log.push(`resume ${task.id}`);
    await this.#client.tasks.resume(this.#client.ctx, { containerId: task.id });
    task.status = "running";
    task.told.push("resumed");
  }

  async #update(task: ModelTask): Promise<void> {
    this.log.push(`update ${task.id}`);
    const value = Buffer.from(JSON.stringify({ pids: { limit: 50 + this.#random.below(50) } }));
    const resources = { typeUrl: resourcesType, value };
    await this.#client.tasks.update(this.#client.ctx, { containerId: task.id, resources });
  }

  /** What its status forbids fails and changes nothing. */
  async #refused(task: ModelTask): Promise<void> {
    this.log.push(`refused ${task.id}`);
    const { ctx, tasks } = this.#client;
    const containerId = task.id;
    const create = tasks.create(ctx, { containerId });
    await assert.rejects(create, (error) => codeOf(error) === "already-exists");
    if (task.status !== "created") await assert.rejects(tasks.start(ctx, { containerId }));
    if (task.status === "running" || task.status === "paused") {
      await assert.rejects(tasks.delete(ctx, { containerId }));
    }
    if (task.status === "stopped") {
      const kill = tasks.kill(ctx, { containerId, signal: 9 });
      await assert.rejects(kill, (error) => codeOf(error) === "not-found");
      await assert.rejects(this.#client.exec(containerId, "never", sleeper));
    }
  }

  async #performOnExec(task: ModelTask, operation: Operation): Promise<void> {
    if (operation === "exec") {
      if (task.status === "running" && task.execs.size < execsMax) await this.#exec(task);
      return;
    }
    const [execId, exec] = this.#oneOf([...task.execs]) ?? [];
    if (!exec || execId === undefined || task.status === "paused") return;
    const { ctx, tasks } = this.#client;
    const process = { containerId: task.id, execId };
    if (operation === "exec-start" && exec.status === "created" && task.status === "running") {
      this.log.push(`start ${task.id}/${execId}`);
      await tasks.start(ctx, process);
      exec.status = "running";
    }
    if (operation === "exec-kill" && exec.status === "running") {
      this.log.push(`kill ${task.id}/${execId}`);
      const exit = tasks.wait(ctx, process);
      await tasks.kill(ctx, { ...process, signal: 9 });
      assert.equal((await exit).exitStatus, 137);
      exec.status = "stopped";
      exec.exitStatus = 137;
    }
    if (operation === "exec-delete" && exec.status === "stopped") {
      this.log.push(`delete ${task.id}/${execId}`);
      assert.equal((await tasks.deleteProcess(ctx, process)).exitStatus, exec.exitStatus);
      task.execs.delete(execId);
    }
  }

  async #exec(task: ModelTask): Promise<void> {
    this.#serial += 1;
    const execId = `e${this.#serial}`;
    this.log.push(`exec ${task.id}/${execId}`);
    await this.#client.exec(task.id, execId, sleeper);
    const exec: ModelExec = { status: "created", exitStatus: 0 };
    task.execs.set(execId, exec);
  }

  async #restartDaemon(): Promise<void> {
    this.log.push("restart the daemon");
    await this.#client.restartDaemon();
    // What was told meanwhile is not seen.
    for (const task of this.#tasks.values()) task.told.length = 0;
    this.#client.events.length = 0;
  }

  async #killSupervisor(): Promise<void> {
    this.log.push("kill the supervisor");
    const pids = await supervisorPids(this.#client);
    for (const pid of pids) process.kill(pid, "SIGKILL");
    const isReplaced = async (): Promise<boolean> => {
      const now = await supervisorPids(this.#client);
      return this.#tasks.size === 0 || (now.length > 0 && now.every((pid) => !pids.includes(pid)));
    };
    // One that dies often is started again later each time, half a minute at most.
    await until("a successor serves", isReplaced, { timeoutMs: 60_000 });
    for (const task of this.#tasks.values()) {
      // It tells exits again too, not knowing whether they were heard.
      const exit = `exit ${task.exitStatus}`;
      if (task.status === "stopped" && task.told.at(-1) !== exit) task.told.push(exit);
    }
  }

  async #check(): Promise<void> {
    const { ctx, tasks } = this.#client;
    const listed = (await tasks.list(ctx, {})).tasks;
    const told = listed.map(({ id, pid, status }) => `${id} ${pid} ${statusNames[status]}`);
    const known = [...this.#tasks.values()];
    const expected = known.map(({ id, pid, status }) => `${id} ${pid} ${status}`);
    assert.deepEqual(told.toSorted(), expected.toSorted());
    for (const task of known) {
      for (const [execId, exec] of task.execs) {
        const status = task.status === "paused" ? "paused" : exec.status;
        assert.equal(await this.#client.status(task.id, execId), status, `${task.id}/${execId}`);
      }
      // One that a dead supervisor left is reaped by whoever it was left to.
      const state = (await processInfo(task.pid))?.state;
      assert.equal(state !== undefined && state !== "Z", task.status !== "stopped", task.id);
    }
    await until("no process is left a zombie, and no bundle", async () => {
      const { bundles = [], processes = [] } = await holdingsOf(this.#client);
      const visible = bundles.filter((name) => !name.startsWith("."));
      const isClean = !processes.some((it) => it.startsWith("zombie (sleep"));
      return isClean && isDeepStrictEqual(visible.toSorted(), known.map(({ id }) => id).toSorted());
    });
    await this.#checkEvents(known);
  }

  async #checkEvents(known: readonly ModelTask[]): Promise<void> {
    for (const { id, told } of known) {
      const seen = (): string[] => {
        const lines = this.#client.topics(id).filter((line) => !/ e\d/.test(line));
        // A successor tells an exit once more.
        return lines.filter((line, i) => !line.startsWith("exit") || line !== lines[i - 1]);
      };
      await until(`${told.join(", ")} of ${id} is told`, () => seen().length >= told.length);
      assert.deepEqual(seen(), told, `events of ${id}`);
    }
  }
}

const statusNames = ["unknown", "created", "running", "stopped", "paused", "pausing"] as const;
