import { setTimeout as sleep } from "node:timers/promises";
import { isErrno } from "#pkg/errors.ts";
import { exitStatus32, parseWaitStatus } from "#pkg/sys/exit-status.ts";
import { nowNanos } from "#pkg/time.ts";
import { countThreads, readProcStat } from "./proc.ts";
import type { Exit } from "./process-state.ts";
import { unknownStatus } from "./process-watch.ts";
import type { ShimServices } from "./shim-services.ts";
import type { TaskProcess } from "./task-process.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import type { ProcessRecord } from "./task-record.ts";

// Nothing in Node waits for a pidfd, and only the containers of a dead supervisor are watched so.
const pollMs = 100;

/**
 * Reports the end of a process whose parent this is not, once.
 *
 * How it ended is seen while it is a zombie, or told by the kernel once it is reaped (Linux 6.15)
 * by a pidfd of before its end: the one that was handed over, or else one opened here. `known` is
 * what had been recorded before. Else the status is 255.
 *
 * Resolves after the first look: with true when it had ended by then, and that is reported.
 */
export function watchAdopted(
  services: ShimServices,
  process: TaskProcess,
  record: ProcessRecord,
  known: Exit | undefined,
): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  services.tasks.go(async () => {
    try {
      const onRuns = (): void => resolve(false);
      const status = known?.status ?? (await statusOf(services, process, { record, onRuns }));
      process.reportExit(known ?? { pid: record.pid, status, at: nowNanos() });
      resolve(true);
    } finally {
      resolve(false);
    }
  });
  return promise;
}

async function statusOf(
  { sys }: ShimServices,
  process: TaskProcess,
  { record, onRuns }: { readonly record: ProcessRecord; readonly onRuns: () => void },
): Promise<number> {
  const isHandedOver = process.pidfd !== undefined;
  try {
    if (!isHandedOver) process.keepPidfd(sys, sys.pidfdOpen(record.pid));
  } catch (error) {
    if (isErrno(error, "ESRCH")) return unknownStatus;
    throw error;
  }
  for (let isFirst = true; ; isFirst = false) {
    const stat = readProcStat(record.pid);
    if (stat?.startTime !== record.startTime) {
      // One opened here may be of another process, which had got the number before.
      return isFirst && !isHandedOver ? unknownStatus : reapedStatus(sys, process.pidfd);
    }
    // A first thread that has ended looks like a zombie as long as others run.
    if (stat.state === "Z" && countThreads(record.pid) <= 1) {
      return exitStatus32(parseWaitStatus(stat.exitWord));
    }
    onRuns();
    await sleep(pollMs);
  }
}

function reapedStatus(sys: Pick<Syscalls, "pidfdGetInfo">, pidfd: number | undefined): number {
  if (pidfd === undefined) return unknownStatus;
  try {
    const { exit } = sys.pidfdGetInfo(pidfd);
    return exit === undefined ? unknownStatus : exitStatus32(exit);
  } catch (error) {
    if (isErrno(error, "ENOTTY", "ESRCH", "EINVAL")) return unknownStatus;
    throw error;
  }
}
