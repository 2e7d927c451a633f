import type {
  Config,
  ProxyPluginConfig,
  StreamProcessorConfig,
} from "#cmd/containerd/config/config.ts";
import type { ConfigFile } from "#cmd/containerd/config/file.ts";
import { overlay } from "#pkg/plugin/table.ts";

/**
 * Lays a file, brought to the newest version, over what there is.
 *
 * As upstream: of the daemon's own keys a text or number that is not empty or zero replaces, lists
 * are joined without doubles; sections of plugins are merged table by table, where everything else
 * replaces; entries of the other tables replace as a whole.
 */
export function mergeConfig(to: Config, file: ConfigFile): Config {
  const { debug = {} } = file;
  return {
    root: file.root || to.root,
    state: file.state || to.state,
    temp: file.temp || to.temp,
    disabledPlugins: joined(to.disabledPlugins, file.disabled_plugins),
    requiredPlugins: joined(to.requiredPlugins, file.required_plugins),
    oomScore: file.oom_score || to.oomScore,
    imports: joined(to.imports, file.imports),
    debug: {
      level: debug.level || to.debug.level,
      format: debug.format || to.debug.format,
      logTraceId: debug.log_trace_id || to.debug.logTraceId,
    },
    plugins: overlay(to.plugins, file.plugins ?? {}) as Config["plugins"], // -- tables of tables
    cgroupPath: file.cgroup?.path || to.cgroupPath,
    proxyPlugins: { ...to.proxyPlugins, ...mapped(file.proxy_plugins, proxyPlugin) },
    timeouts: { ...to.timeouts, ...file.timeouts },
    streamProcessors: {
      ...to.streamProcessors,
      ...mapped(file.stream_processors, streamProcessor),
    },
  };
}

function joined(before: readonly string[], more: readonly string[] = []): readonly string[] {
  return [...new Set([...before, ...more])];
}

function mapped<T, U>(
  table: Record<string, T> | undefined,
  each: (value: T) => U,
): Record<string, U> {
  return Object.fromEntries(Object.entries(table ?? {}).map(([key, value]) => [key, each(value)]));
}

type ProxyPlugin = NonNullable<ConfigFile["proxy_plugins"]>[string];
type StreamProcessor = NonNullable<ConfigFile["stream_processors"]>[string];

function proxyPlugin(from: ProxyPlugin): ProxyPluginConfig {
  const { type = "", address = "", platform = "", exports = {}, capabilities = [] } = from;
  return { type, address, platform, exports, capabilities };
}

function streamProcessor(from: StreamProcessor): StreamProcessorConfig {
  const { accepts = [], returns = "", path = "", args = [], env = [] } = from;
  return { accepts, returns, path, args, env };
}
