import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isErrno } from "#pkg/errors.ts";
import { watchAdopted } from "./adopted-process.ts";
import { Container } from "./container.ts";
import { removeHalfWritten } from "./durable-file.ts";
import { readExitRecord } from "./exit-record.ts";
import type { Inheritance } from "./inherited-ends.ts";
import { defaultOptions, parseOptions, type RuncOptions } from "./options.ts";
import { resumeIo } from "./open-io.ts";
import { settlesWithin } from "./process-io.ts";
import { rollBackCreation, rollBackExecs } from "./roll-back.ts";
import { RuntimeCli } from "./runtime-cli.ts";
import type { ShimServices } from "./shim-services.ts";
import type { Supervisor } from "./supervisor.ts";
import type { TaskProcess } from "./task-process.ts";
import { type ProcessRecord, readTaskRecord, type TaskRecord } from "./task-record.ts";

/** For runtimes that do not come back, all together: the other containers are not to wait. */
const rollBackTimeoutMs = 5_000;
/** Of what could not be taken over: there may be descriptors, or memory, again by then. */
const retryMs = 5_000;
/** For what follows an end: its execs' are told first, and it is recorded. */
const endedTimeoutMs = 2_000;

/**
 * Takes over what an earlier supervisor of the group has left: running containers with their execs,
 * ended ones with their exit, half-made ones to be rolled back.
 *
 * One that cannot be taken over is logged, withheld from clients and tried once more a little later;
 * the others go on.
 */
export async function adoptContainers(
  services: ShimServices,
  supervisor: Supervisor,
  from: { readonly stateDir: string; readonly inheritance: Inheritance },
): Promise<void> {
  const { stateDir, inheritance } = from;
  const deadline = performance.now() + rollBackTimeoutMs;
  const undoing: Promise<void>[] = [];
  for (const name of await bundlesIn(stateDir)) {
    const bundle = join(stateDir, name);
    const take = async (within: { deadline: number }): Promise<void> => {
      const record = await readTaskRecord(bundle);
      if (record?.namespace !== services.namespace || record.group !== services.group) return;
      const { phase } = record;
      if (phase === "creating") {
        const runtime = runtimeOf(services, bundle, record);
        const undone = rollBackCreation(services, bundle, record, runtime);
        supervisor.occupy(record.id, undone);
        undoing.push(undone);
      } else {
        const taken = { ...record, phase };
        supervisor.add(await adopt(services, bundle, taken, { inheritance, ...within }));
      }
    };
    try {
      await take({ deadline });
    } catch (error) {
      services.logger.error("failed to take over a task, trying again", { error, bundle });
      supervisor.withhold(name);
      services.tasks.go(async () => {
        await sleep(retryMs, undefined, { ref: false });
        // Its bundle may be another's by now.
        if (supervisor.isWithheld(name)) await take({ deadline: performance.now() });
      });
    }
  }
  await settlesWithin(Promise.allSettled(undoing), Math.max(0, deadline - performance.now()));
}

async function bundlesIn(stateDir: string): Promise<string[]> {
  try {
    // A dot stands before what is being removed.
    return (await readdir(stateDir)).filter((name) => !name.startsWith("."));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

async function adopt(
  services: ShimServices,
  bundle: string,
  record: TaskRecord & { phase: "created" | "running" | "paused" },
  how: { readonly inheritance: Inheritance; readonly deadline: number },
): Promise<Container> {
  const options = await readOptions(bundle);
  const container = new Container(services, {
    id: record.id,
    bundle,
    stdio: record.stdio,
    runtime: runtimeOf(services, bundle, record),
    ioUid: options.ioUid,
    ioGid: options.ioGid,
    hasRootfs: record.hasRootfs,
    hasOwnPidNamespace: record.hasOwnPidNamespace,
  });
  const { init } = record;
  if (init === undefined) throw new Error(`task.json of ${record.id} names no process`);
  await removeHalfWritten(bundle);
  await rollBackExecs(services, bundle, record, how.deadline);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => container.undone());
  const { inheritance } = how;
  container.takeOver(init, record.phase, record.oomKills);
  // Before anything that is seen here for the first time: it happened earlier.
  container.events.takeOver(record.owed ?? []);
  for (const { id, stdio } of record.added ?? []) container.execs.takeOverAdded(id, stdio);
  for (const exec of record.execs) {
    if (exec.exit) {
      const exit = { pid: exec.pid, status: exec.exit.status, at: BigInt(exec.exit.at) };
      const ended = { record: processOf(exec), exit };
      const process = container.execs.takeOverEnded(exec.id, ended, exec.stdio);
      resume(services, process, exec, inheritance);
      process.io?.processExited();
      continue;
    }
    const process = container.execs.takeOver(exec.id, processOf(exec), exec.stdio);
    resume(services, process, exec, inheritance);
    await watchAdopted(services, process, exec, undefined);
  }
  resume(services, container.init, init, inheritance);
  if (record.phase === "created" && (await container.runtime.hasStarted(record.id))) {
    await container.foundStarted(init.pid);
  }
  await container.foundFreezer();
  container.lookForOom();
  // Who asks from now on hears the truth: nobody is to start, or to kill, what has ended.
  const exit = await readExitRecord(bundle);
  if (await watchAdopted(services, container.init, init, exit)) {
    await settlesWithin(container.init.wait(services.ctx), endedTimeoutMs);
  }
  undo.move();
  services.logger.info("took over a task", { id: record.id, pid: init.pid });
  return container;
}

/** Gives the process the streams and the pidfd that it had. */
function resume(
  services: ShimServices,
  process: TaskProcess,
  record: ProcessRecord,
  inheritance: Inheritance,
): void {
  const inherited = inheritance.take(process.name, record.pid);
  // What is recorded to have ended is asked nothing more.
  const pidfd = process.exit ? undefined : inherited?.take("pidfd");
  if (pidfd !== undefined) process.keepPidfd(services.sys, pidfd);
  const onChange = (): void => process.changed();
  process.io = resumeIo(process.stdio, { record, inherited }, { ...services, onChange });
  process.changed();
}

function processOf({ pid, startTime, pipes }: ProcessRecord): ProcessRecord {
  return { pid, startTime, pipes };
}

function runtimeOf(services: ShimServices, bundle: string, record: TaskRecord): RuntimeCli {
  return new RuntimeCli({ ...record.runtime, bundle }, services.children);
}

async function readOptions(bundle: string): Promise<RuncOptions> {
  try {
    return parseOptions(await readFile(join(bundle, "options.json"), "utf8"));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return defaultOptions;
    throw error;
  }
}
