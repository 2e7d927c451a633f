import { readdir, readFile, readlink, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isErrno } from "#pkg/errors.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { pidFileOf } from "./create-container.ts";
import { execFiles, execIdOfFile } from "./exec-files.ts";
import { pidsWithArgument } from "./proc.ts";
import { rootfsOf, unmountBelow } from "./rootfs.ts";
import type { RuntimeCli } from "./runtime-cli.ts";
import type { ShimServices } from "./shim-services.ts";
import { removeTaskRecord, type TaskRecord } from "./task-record.ts";

const SIGKILL = 9;
/** For a runtime that does not go although it was killed. */
export const endTimeoutMs = 5_000;
const endPollMs = 20;

/** Undoes a creation that a dead supervisor had begun. */
export async function rollBackCreation(
  { sys, logger }: ShimServices,
  bundle: string,
  record: TaskRecord,
  runtime: RuntimeCli,
): Promise<void> {
  logger.warn("rolling back a creation that was cut short", { id: record.id });
  await endRuntimeOf(sys, pidFileOf(bundle), performance.now() + endTimeoutMs);
  await runtime.delete(record.id, "force");
  if (record.hasRootfs) await unmountBelow(sys, rootfsOf(bundle));
  await removeTaskRecord(bundle);
}

/**
 * Undoes the starts of execs that a dead supervisor had begun and not recorded: nobody was told of
 * them, and nobody could end them. Those execs are then as before their start, and may be started
 * again.
 *
 * An addition that was not recorded is undone too: its caller has heard of no success.
 *
 * After `deadline` nothing is waited for: others wait to be taken over.
 */
export async function rollBackExecs(
  { sys, logger }: ShimServices,
  bundle: string,
  record: TaskRecord,
  deadline: number,
): Promise<void> {
  const started = new Set(record.execs.map(({ id }) => id));
  const added = new Set(record.added?.map(({ id }) => id));
  const names = await readdir(bundle);
  const execIds = new Set(names.map(execIdOfFile).filter((id) => id !== undefined));
  const rollBack = async (execId: string): Promise<void> => {
    const files = execFiles(bundle, execId);
    const wasStarting = names.includes(basename(files.starting)) || !added.has(execId);
    if (!started.has(execId) && wasStarting) {
      logger.warn("rolling back an exec that was cut short", { id: record.id, exec: execId });
      await endRuntimeOf(sys, files.pid, deadline);
      const pid = Number(await readIfThere(files.pid));
      if (await isInside(pid, record.init?.pid ?? 0)) kill(sys, pid);
      await rm(files.pid, { force: true });
    }
    // The marker goes last but one: until then a next successor has to do all this again.
    await rm(files.log, { force: true });
    await rm(files.starting, { force: true });
    if (!added.has(execId)) await rm(files.process, { force: true });
  };
  await Promise.all([...execIds].map(rollBack));
}

/**
 * Ends a call of the runtime that outlived its supervisor: posix_spawn cannot tie its life to its
 * parent's. It is known by the pid file on its command line.
 */
async function endRuntimeOf(
  sys: Pick<Syscalls, "kill">,
  pidFile: string,
  deadline: number,
): Promise<void> {
  for (;;) {
    const pids = pidsWithArgument(pidFile);
    for (const pid of pids) kill(sys, pid);
    if (pids.length === 0 || performance.now() > deadline) return;
    await sleep(endPollMs);
  }
}

/** Whether a pid, which may be another's by now, is of a process in the container. */
async function isInside(pid: number, initPid: number): Promise<boolean> {
  if (!Number.isSafeInteger(pid) || pid <= 0 || initPid === 0) return false;
  const [own, container] = await Promise.all([pid, initPid].map(mountNamespaceOf));
  return own !== undefined && own === container;
}

async function mountNamespaceOf(pid: number): Promise<string | undefined> {
  try {
    return await readlink(join("/proc", String(pid), "ns/mnt"));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH", "EACCES")) return undefined;
    throw error;
  }
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "";
    throw error;
  }
}

function kill(sys: Pick<Syscalls, "kill">, pid: number): void {
  try {
    sys.kill(pid, SIGKILL);
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
}
