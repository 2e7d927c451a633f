import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logger } from "#pkg/log.ts";
import type { PluginRecord } from "#pkg/plugin/plugin.ts";

/**
 * Writes what the daemon is doing to the log, and all of Node's own report to a file: for SIGUSR1,
 * where Go's prints its stacks. The environment stays out of it, since it may hold secrets.
 */
export async function dumpReport(logger: Logger, plugins: readonly PluginRecord[]): Promise<void> {
  const resources = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) {
    resources.set(kind, (resources.get(kind) ?? 0) + 1);
  }
  const summary = {
    uptimeSeconds: Math.round(process.uptime()),
    memory: process.memoryUsage(),
    cpu: process.resourceUsage(),
    resources: Object.fromEntries(resources),
    plugins: plugins.map(({ uri, state }) => `${uri} ${state}`),
  };
  const text = JSON.stringify(summary, undefined, 2);
  logger.info(`=== BEGIN diagnostic report ===\n${text}\n=== END diagnostic report ===`);
  Object.assign(process.report, { excludeEnv: true, excludeNetwork: true });
  const path = join(tmpdir(), `containerd.${process.pid}.stacks.log`);
  try {
    const report = { summary, report: process.report.getReport() };
    // Made anew: never through a link that somebody else left in a folder all may write to.
    await rm(path, { force: true });
    await writeFile(path, JSON.stringify(report, undefined, 2), { mode: 0o600, flag: "wx" });
    logger.info(`diagnostic report written to ${path}`);
  } catch (error) {
    logger.warn("diagnostic report was not written", { error });
  }
}
