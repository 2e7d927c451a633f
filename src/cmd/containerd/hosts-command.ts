import { builtins } from "#cmd/containerd/builtins.ts";
import { criRegistryOf, readConfiguration } from "#cmd/containerd/daemon.ts";
import type { Flags } from "#cmd/containerd/flags.ts";
import { Host } from "#cmd/containerd/host.ts";
import { rootsOf } from "#core/remotes/hosts.ts";
import { type ExplainedHost, explainHosts } from "#core/remotes/hosts-explain.ts";
import { proxyFromEnvironment } from "#core/remotes/proxy-environment.ts";
import { Context } from "#pkg/context.ts";
import { formatText } from "#pkg/log-format.ts";
import { descriptorWriter, LogWriter } from "#pkg/log-writer.ts";
import { overlay } from "#pkg/plugin/table.ts";
import { transferConfig, transferRules } from "#plugins/transfer/plugin.ts";

const transferUri = "io.containerd.transfer.v1.local";

/**
 * `hosts explain`: what a daemon with this configuration and environment would ask, as text. No secret is part of it.
 * What a client brings along, credentials and a directory of its own, is not known here.
 */
export async function explanation(
  ref: string,
  { flags, hostDir }: { readonly flags: Flags; readonly hostDir: string | undefined },
): Promise<string> {
  const write = descriptorWriter(process.stderr.fd);
  const log = new LogWriter({ level: "warning", format: formatText, write });
  const host = new Host({ env: process.env, revision: "", log, logSink() {} });
  const config = await readConfiguration({ flags, log }, builtins(host));
  const section = overlay(transferConfig.defaults, config.plugins[transferUri] ?? {});
  const settings = transferConfig.decode(section, () => {});
  const { roots, cri, credentials } = transferRules(host, settings, criRegistryOf(config));
  const hosts = await explainHosts(Context.background({ logger: log.root }), ref, {
    ...(hostDir === undefined ? { roots, cri } : { roots: rootsOf(hostDir) }),
    credentials,
    proxyFor: proxyFromEnvironment(host.env),
  });
  return format(ref, hosts);
}

function format(ref: string, hosts: readonly ExplainedHost[]): string {
  const lines = hosts.flatMap((host, i) => [`${i + 1}. ${host.url}`, ...details(host)]);
  if (lines.length === 0) lines.push("no host is configured to be asked");
  return `${[ref, ...lines].join("\n")}\n`;
}

function details(host: ExplainedHost): readonly string[] {
  const rows: readonly (readonly [string, string])[] = [
    ["may", host.capabilities.join(", ")],
    ["resolves this", host.resolves ? "yes" : "no"],
    ["tls", host.tls],
    ["credentials", host.credentials ?? "none"],
    ...(host.headers.length > 0 ? [["headers", host.headers.join(", ")] as const] : []),
    ...(host.proxy === undefined ? [] : [["proxy", host.proxy] as const]),
    ...host.why.map((why, i) => [i === 0 ? "because of" : "and", why] as const),
  ];
  return rows.map(([name, value]) => `   ${`${name}:`.padEnd(15)}${value}`);
}
