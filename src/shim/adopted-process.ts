import { setTimeout as sleep } from "node:timers/promises";
import { isErrno } from "#pkg/errors.ts";
import { exitStatus32, parseWaitStatus } from "#pkg/sys/exit-status.ts";
import { nowNanos } from "#pkg/time.ts";
import { countThreads, readProcStat } from "./proc.ts";
import type { Exit } from "./process-state.ts";
import { unknownStatus } from "./process-watch.ts";
import type { ShimServices } from "./shim-services.ts";
import type { ProcessRecord } from "./task-record.ts";

// Nothing in Node waits for a pidfd, and only the containers of a dead supervisor are watched so.
const pollMs = 100;

/**
 * Calls back once with the end of a process whose parent this is not.
 *
 * How it ended is seen while it is a zombie, or told by the kernel once it is reaped if the pidfd
 * was opened in time (Linux 6.15); `known` is what had been recorded before. Else the status is
 * 255.
 */
export function watchAdopted(
  services: ShimServices,
  record: ProcessRecord,
  known: Exit | undefined,
  onExit: (exit: Exit) => void,
): void {
  services.tasks.go(async () => {
    if (known) onExit(known);
    else onExit({ pid: record.pid, status: await statusOf(services, record), at: nowNanos() });
  });
}

async function statusOf({ sys }: ShimServices, record: ProcessRecord): Promise<number> {
  using stack = new DisposableStack();
  let pidfd: number;
  try {
    pidfd = sys.pidfdOpen(record.pid);
  } catch (error) {
    if (isErrno(error, "ESRCH")) return unknownStatus;
    throw error;
  }
  stack.defer(() => sys.close(pidfd));
  for (let isFirst = true; ; isFirst = false) {
    const stat = readProcStat(record.pid);
    // The pidfd may be that of another process which got the number before it was opened.
    const isSame = stat?.startTime === record.startTime;
    if (!isSame) return isFirst ? unknownStatus : reapedStatus(() => sys.pidfdGetInfo(pidfd).exit);
    // A first thread that has ended looks like a zombie as long as others run.
    if (stat.state === "Z" && countThreads(record.pid) <= 1) {
      return exitStatus32(parseWaitStatus(stat.exitWord));
    }
    await sleep(pollMs);
  }
}

function reapedStatus(ask: () => Parameters<typeof exitStatus32>[0] | undefined): number {
  try {
    const exit = ask();
    return exit === undefined ? unknownStatus : exitStatus32(exit);
  } catch (error) {
    if (isErrno(error, "ENOTTY", "ESRCH", "EINVAL")) return unknownStatus;
    throw error;
  }
}
