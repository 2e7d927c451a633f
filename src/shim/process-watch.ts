import { readFile } from "node:fs/promises";
import { CodedError, hasCode, isErrno, messageOf } from "#pkg/errors.ts";
import { exitStatus32 } from "#pkg/sys/exit-status.ts";
import { nowNanos } from "#pkg/time.ts";
import type { Exit } from "./process-state.ts";
import type { ShimServices } from "./shim-services.ts";
import type { TaskProcess } from "./task-process.ts";

/** What is told when nobody could see how a process ended. */
export const unknownStatus = 255;

/**
 * Calls back once with the end of a process that the runtime has just made.
 *
 * `mark` is of before it can have existed: an exit of an older process with its pid is not taken
 * for its own.
 */
export function watchProcess(
  { reaper, tasks, logger }: Pick<ShimServices, "reaper" | "tasks" | "logger">,
  pid: number,
  mark: number,
  onExit: (exit: Exit) => void,
): void {
  tasks.go(async () => {
    let status: number;
    try {
      status = exitStatus32(await reaper.wait(pid, { after: mark }));
    } catch (error) {
      // The supervisor ends and leaves its containers to a successor.
      if (hasCode(error, "canceled")) return;
      if (!isErrno(error, "ECHILD")) throw error;
      // Gone without ever having been our child: a runtime that keeps the parenthood to itself.
      logger.error("exit of a process was not seen", { pid });
      status = unknownStatus;
    }
    onExit({ pid, status, at: nowNanos() });
  });
}

/**
 * Lets a successor ask how the process ended. Without a hand-over there is none to ask, and one
 * that has ended already needs none.
 */
export function keepPidfd(
  { sys, handover }: Pick<ShimServices, "sys" | "handover">,
  process: TaskProcess,
  pid: number,
): void {
  if (!handover) return;
  try {
    process.keepPidfd(sys, sys.pidfdOpen(pid));
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
}

export async function readPidFile(path: string, context: string): Promise<number> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new CodedError("unknown", `${context}: ${messageOf(error)}`, { cause: error });
  }
  const pid = Number(text.trim());
  if (!Number.isSafeInteger(pid) || pid <= 0) {
    throw new CodedError("unknown", `${context}: ${JSON.stringify(text.slice(0, 20))} is no pid`);
  }
  return pid;
}
