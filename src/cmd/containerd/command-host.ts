import { builtins } from "#cmd/containerd/builtins.ts";
import type { Config } from "#cmd/containerd/config/config.ts";
import { readConfiguration } from "#cmd/containerd/daemon.ts";
import type { Flags } from "#cmd/containerd/flags.ts";
import { Host } from "#cmd/containerd/host.ts";
import { formatText } from "#pkg/log-format.ts";
import type { LogLevel } from "#pkg/log.ts";
import { descriptorWriter, LogWriter } from "#pkg/log-writer.ts";
import type { AnyPlugin } from "#pkg/plugin/plugin.ts";

/** What a command that is not the daemon starts from; its log is standard error, from `level` on. */
export interface CommandHost {
  readonly host: Host;
  readonly log: LogWriter;
  readonly plugins: readonly AnyPlugin[];
  /** The configuration that a daemon with these flags would have. */
  readonly configuration: () => Promise<Config>;
}

export function commandHost(flags: Flags, level: LogLevel): CommandHost {
  const write = descriptorWriter(process.stderr.fd);
  const log = new LogWriter({ level, format: formatText, write });
  const host = new Host({ env: process.env, revision: "", log, logSink() {} });
  const plugins = builtins(host);
  const configuration = (): Promise<Config> => readConfiguration({ flags, log }, plugins);
  return { host, log, plugins, configuration };
}
