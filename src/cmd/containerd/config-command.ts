import { builtins } from "#cmd/containerd/builtins.ts";
import { defaultConfig } from "#cmd/containerd/config/config.ts";
import { formatConfig } from "#cmd/containerd/config/output.ts";
import { readConfiguration } from "#cmd/containerd/daemon.ts";
import type { Flags } from "#cmd/containerd/flags.ts";
import { Host } from "#cmd/containerd/host.ts";
import { formatText } from "#pkg/log-format.ts";
import { descriptorWriter, LogWriter } from "#pkg/log-writer.ts";

/**
 * `config default`, and for a file with all it imports `config dump`, which is `config migrate` as
 * well.
 */
export async function configText(which: "default" | "effective", flags: Flags): Promise<string> {
  const write = descriptorWriter(process.stderr.fd);
  const log = new LogWriter({ level: "info", format: formatText, write });
  const plugins = builtins(new Host({ env: process.env, revision: "", log, logSink() {} }));
  if (which === "default") return formatConfig(defaultConfig(), plugins);
  return formatConfig(await readConfiguration({ flags, log }, plugins), plugins);
}
