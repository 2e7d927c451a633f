import type { Logger } from "#pkg/log.ts";
import type { PluginRecord } from "#pkg/plugin/plugin.ts";

/**
 * Within what systemd waits for, so that the log says what hung and not only that something did.
 */
const stopTimeoutMs = 10_000;

/** Disposes the daemon, and gives up when that takes too long. Gives back the exit code. */
export async function stopInTime(
  daemon: AsyncDisposable,
  { records, logger }: { records: readonly PluginRecord[]; logger: Logger },
): Promise<number> {
  const { promise: late, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), stopTimeoutMs);
  const outcome = await Promise.race([daemon[Symbol.asyncDispose](), late]);
  clearTimeout(timer);
  if (outcome !== "late") return 0;
  const plugins = records.filter(({ state }) => state === "started").map(({ uri }) => uri);
  logger.error("plugins did not stop in time", { plugins, timeoutMs: stopTimeoutMs });
  return 1;
}
