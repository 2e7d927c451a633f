import { commandHost } from "#cmd/containerd/command-host.ts";
import { criRegistryOf } from "#cmd/containerd/daemon.ts";
import type { Flags } from "#cmd/containerd/flags.ts";
import { rootsOf } from "#core/remotes/hosts.ts";
import { type ExplainedHost, explainHosts } from "#core/remotes/hosts-explain.ts";
import { proxyFromEnvironment } from "#core/remotes/proxy-environment.ts";
import { Context } from "#pkg/context.ts";
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
  const { host, log, configuration } = commandHost(flags, "warning");
  const config = await configuration();
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
