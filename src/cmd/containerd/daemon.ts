import { stat } from "node:fs/promises";
import { builtins } from "#cmd/containerd/builtins.ts";
import { type Config, defaultConfig } from "#cmd/containerd/config/config.ts";
import { loadConfig } from "#cmd/containerd/config/load.ts";
import { makeTopLevelDirectories } from "#cmd/containerd/directories.ts";
import { lockDirectory } from "#cmd/containerd/directory-lock.ts";
import { readFailpoints } from "#cmd/containerd/failpoints.ts";
import { addressesOf, applyFlags, type Flags } from "#cmd/containerd/flags.ts";
import { assertNotForeignRoot } from "#cmd/containerd/foreign-root.ts";
import type { Host } from "#cmd/containerd/host.ts";
import { notifySystemd } from "#cmd/containerd/notify.ts";
import { applyOomScore } from "#cmd/containerd/oom-score.ts";
import type { Context } from "#pkg/context.ts";
import { tryParseDuration } from "#pkg/duration.ts";
import { CodedError, isErrno, wrap } from "#pkg/errors.ts";
import { type LogWriter, logFormatter, parseLogLevel } from "#pkg/log-writer.ts";
import { Graph } from "#pkg/plugin/graph.ts";
import { type AnyPlugin, uri } from "#pkg/plugin/plugin.ts";
import { proxyPlugins } from "#plugins/proxy/plugin.ts";
import type { Server } from "#plugins/server/server.ts";
import { assertUnserved } from "#plugins/server/socket.ts";
import { ServerPlugin } from "#plugins/types.ts";

export interface DaemonOptions {
  readonly flags: Flags;
  readonly host: Host;
  readonly log: LogWriter;
  /** For a path given to the log: whether lines go to a terminal. */
  readonly terminal: boolean;
  readonly notifySocket: string | undefined;
  /** The value of `CONTAINERD_FAILPOINTS`. */
  readonly failpoints: string | undefined;
  /** When the process began, by `performance.now()`. */
  readonly startedMs: number;
}

/** A started daemon: its plugins and the locks on its folders. */
export interface Daemon extends AsyncDisposable {
  readonly graph: Graph;
}

/**
 * Starts everything up to listening sockets; who disposes the result stops it in reverse.
 *
 * Nothing is written before it is certain that no other daemon serves the address and that the root
 * is not another's.
 */
export async function startDaemon(ctx: Context, options: DaemonOptions): Promise<Daemon> {
  const { host, log } = options;
  const config = await readConfiguration(options, builtins(host));
  log.configure({
    level: parseLogLevel(config.debug.level || "info"),
    format: logFormatter(config.debug.format, { terminal: options.terminal }),
  });
  const failpoints = readFailpoints(options.failpoints, ctx.logger);
  const processors = Object.entries(config.streamProcessors);
  const streamProcessors = processors.map(([id, processor]) => ({ id, ...processor }));
  const plugins = [
    ...builtins(host, { streamProcessors, criRegistry: criRegistryOf(config) }),
    ...proxyPlugins(config.proxyPlugins, ctx.logger),
  ];
  warnOfIgnored(ctx, config, plugins);
  const addresses = addressesOf(config);
  await assertNotForeignRoot(config.root);
  await assertFree(addresses);

  await using stack = new AsyncDisposableStack();
  await makeTopLevelDirectories(config);
  if (config.temp !== "") process.env["TMPDIR"] = config.temp;
  for (const what of ["root", "state"] as const) {
    stack.use(lockDirectory(host.sys, config[what], { what, logger: ctx.logger }));
  }
  const { version, revision } = host;
  ctx.logger.info("starting containerd", { version, revision });
  await applyOomScore(config.oomScore, ctx.logger);

  const graph = stack.use(
    await Graph.start(ctx, {
      plugins,
      required: config.requiredPlugins,
      disabled: config.disabledPlugins,
      root: config.root,
      state: config.state,
      grpcAddress: addresses.grpc,
      ttrpcAddress: addresses.ttrpc,
      timeouts: parseTimeouts(config.timeouts),
      failpoints,
      section: (id) => config.plugins[id],
    }),
  );
  await startServers(graph);
  await graph.ready();
  const seconds = (performance.now() - options.startedMs) / 1000;
  notifySystemd("READY=1", {
    socket: options.notifySocket,
    sys: host.sys,
    logger: ctx.logger,
  });
  ctx.logger.info(`containerd successfully booted in ${seconds.toFixed(6)}s`);
  const owned = stack.move();
  return { graph, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The `registry` table of the CRI plugin, under its present name or the one of versions 1 and 2. */
export function criRegistryOf({ plugins }: Config): unknown {
  const uris = ["io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri"];
  return uris.map((id) => plugins[id]?.["registry"]).find((table) => table !== undefined);
}

/**
 * The files and the flags. That the usual file is not there is nothing to speak of; that a named
 * one is not, is.
 */
export async function readConfiguration(
  { flags, log }: Pick<DaemonOptions, "flags" | "log">,
  plugins: readonly AnyPlugin[],
): Promise<Config> {
  const isThere = flags.configGiven || (await exists(flags.config));
  const config = isThere
    ? await loadConfig(flags.config, { plugins, logger: log.root })
    : defaultConfig();
  return applyFlags(config, flags);
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

async function startServers(graph: Graph): Promise<void> {
  for (const record of graph.records) {
    if (record.type !== ServerPlugin.name || record.state !== "started") continue;
    await (record.instance as Server).start(graph.ctx); // -- what the type of the plugin promises
  }
}

async function assertFree(addresses: { grpc: string; ttrpc: string }): Promise<void> {
  try {
    await assertUnserved(addresses.grpc);
  } catch (error) {
    throw wrap("failed to get listener for main endpoint", error);
  }
  try {
    await assertUnserved(addresses.ttrpc);
  } catch (error) {
    throw wrap("failed to get listener for main ttrpc endpoint", error);
  }
}

function parseTimeouts(timeouts: Config["timeouts"]): ReadonlyMap<string, number> {
  const parsed = Object.entries(timeouts).map(([name, text]): [string, number] => {
    const ms = tryParseDuration(text);
    if (ms !== undefined) return [name, ms];
    const message = `key timeouts.${name}: unable to parse ${text} into a time duration`;
    throw new CodedError("invalid-argument", message);
  });
  return new Map(parsed);
}

/**
 * What a configuration may hold that this daemon does not act on: silence would look like consent.
 */
function warnOfIgnored(ctx: Context, config: Config, plugins: readonly AnyPlugin[]): void {
  const known = new Set(plugins.map(uri));
  for (const id of Object.keys(config.plugins)) {
    if (!known.has(id))
      ctx.logger.warn("Ignoring configuration of an unknown plugin", { plugin: id });
  }
  const ignored = {
    "cgroup.path": config.cgroupPath !== "",
    "debug.log_trace_id": config.debug.logTraceId,
  };
  for (const [key, isSet] of Object.entries(ignored)) {
    if (isSet) ctx.logger.warn("Ignoring key in TOML that is not supported yet", { key });
  }
  if (process.geteuid?.() !== 0) {
    ctx.logger.warn("not running as root: most snapshotters and runtimes will not work");
  }
}
