import { commandHost } from "#cmd/containerd/command-host.ts";
import { defaultConfig } from "#cmd/containerd/config/config.ts";
import { formatConfig } from "#cmd/containerd/config/output.ts";
import type { Flags } from "#cmd/containerd/flags.ts";

/**
 * `config default`, and for a file with all it imports `config dump`, which is `config migrate` as
 * well.
 */
export async function configText(which: "default" | "effective", flags: Flags): Promise<string> {
  const { plugins, configuration } = commandHost(flags, "info");
  if (which === "default") return formatConfig(defaultConfig(), plugins);
  return formatConfig(await configuration(), plugins);
}
