import { type Config, configVersion } from "#cmd/containerd/config/config.ts";
import { formatToml } from "#cmd/containerd/config/toml-writer.ts";
import { formatDuration } from "#pkg/duration.ts";
import { type AnyPlugin, type ConfigTable, uri } from "#pkg/plugin/plugin.ts";
import { isTable, overlay } from "#pkg/plugin/table.ts";

/**
 * The whole configuration as a file of the newest version: every key of every plugin that is not
 * disabled, as it is in effect. Reading it back gives the same configuration.
 */
export function formatConfig(config: Config, plugins: readonly AnyPlugin[]): string {
  const enabled = plugins.filter((plugin) => !config.disabledPlugins.includes(uri(plugin)));
  const sections: Record<string, ConfigTable> = { ...config.plugins };
  const timeouts: Record<string, string> = {};
  for (const plugin of enabled) {
    const id = uri(plugin);
    if (plugin.config) sections[id] = effectiveSection(plugin, config.plugins[id] ?? {});
    for (const [key, ms] of Object.entries(plugin.timeouts ?? {})) {
      timeouts[key] = formatDuration(ms);
    }
  }
  const { debug } = config;
  return formatToml({
    version: configVersion,
    root: config.root,
    state: config.state,
    temp: config.temp,
    disabled_plugins: config.disabledPlugins,
    required_plugins: config.requiredPlugins,
    oom_score: config.oomScore,
    imports: config.imports,
    debug: { level: debug.level, format: debug.format, log_trace_id: debug.logTraceId },
    plugins: sorted(sections),
    cgroup: { path: config.cgroupPath },
    proxy_plugins: present(config.proxyPlugins),
    timeouts: present({ ...timeouts, ...config.timeouts }),
    stream_processors: present(config.streamProcessors),
  });
}

/** Defaults overlaid with the section, without the keys that mean nothing to the plugin. */
function effectiveSection(plugin: AnyPlugin, section: ConfigTable): ConfigTable {
  const merged = overlay(plugin.config?.defaults ?? {}, section);
  const unknown: (readonly string[])[] = [];
  plugin.config?.decode(merged, (path) => unknown.push(path));
  return unknown.reduce<ConfigTable>(without, merged);
}

function without<T>(value: T, [key, ...rest]: readonly string[]): T {
  const keep = ([name, each]: [string, unknown]): [string, unknown][] => {
    if (name !== key) return [[name, each]];
    return rest.length > 0 ? [[name, without(each, rest)]] : [];
  };
  if (Array.isArray(value))
    return Object.entries(value)
      .flatMap(keep)
      .map(([, v]) => v) as T; // -- still a list
  return isTable(value) ? (Object.fromEntries(Object.entries(value).flatMap(keep)) as T) : value; // -- still a table
}

function present(table: Readonly<Record<string, unknown>>): ConfigTable | undefined {
  return Object.keys(table).length > 0 ? sorted(table) : undefined;
}

function sorted(table: Readonly<Record<string, unknown>>): ConfigTable {
  return Object.fromEntries(Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1)));
}
