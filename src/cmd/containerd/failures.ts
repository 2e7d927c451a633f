import { AssertionError } from "node:assert";
import type { LogWriter } from "#pkg/log-writer.ts";
import { linux } from "#pkg/sys/linux.ts";

/** BSD's EX_SOFTWARE: an invariant did not hold. */
const exitSoftware = 70;

/**
 * What becomes of an error that nobody caught.
 *
 * It is logged with its causes and stack, and the daemon goes on: whoever waited for the operation
 * has its own deadline. A broken invariant of the metadata ends the daemon instead, since going on
 * would write on top of it.
 */
export function handleFailures(log: LogWriter): void {
  const failed = (error: unknown, origin: string): void => {
    const stack = error instanceof Error ? error.stack : undefined;
    if (isBrokenMetadata(error)) {
      log.log("fatal", "metadata is not as it must be", { error, stack });
      linux.exitGroup(exitSoftware);
    }
    log.root.error(origin, { error, stack });
  };
  process.on("uncaughtException", (error) => failed(error, "uncaught exception"));
  process.on("unhandledRejection", (reason) => failed(reason, "unhandled rejection"));
}

function isBrokenMetadata(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof AssertionError && /\/core\/metadata\//.test(e.stack ?? "")) return true;
  }
  return false;
}
