import { mkdir, readFile } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize } from "node:path";
import * as v from "valibot";
import { bundleUnmount } from "#core/runtime/bundle-mounts.ts";
import { DescriptorKeeper } from "#core/runtime/descriptor-keeper.ts";
import { dialShim } from "#core/runtime/shim-connection.ts";
import { loadShims, taskPlace } from "#core/runtime/shim-loader.ts";
import type { LogSink } from "#core/runtime/shim-log.ts";
import { defaultShimTimeouts, ShimManager, type ShimTimeouts } from "#core/runtime/shim-manager.ts";
import { SpawnedPrograms } from "#core/runtime/spawned-programs.ts";
import { groupings } from "#core/runtime/supervisor-group.ts";
import { ShimTaskRuntime } from "#core/runtime/task-runtime.ts";
import { invalidArgument, isErrno } from "#pkg/errors.ts";
import type { LogLevel } from "#pkg/log.ts";
import { pluginConfig } from "#pkg/plugin/config.ts";
import { definePlugin, type PluginPlatform } from "#pkg/plugin/plugin.ts";
import { byId, one, optional } from "#pkg/plugin/requirement.ts";
import { FS_MAGIC } from "#pkg/sys/constants.ts";
import type { Reaper } from "#pkg/sys/reaper.ts";
import type { SpawnProcess } from "#pkg/sys/spawn.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import {
  EventPlugin,
  MetadataPlugin,
  MountManagerPlugin,
  RuntimePlugin,
  ShimPlugin,
  WarningPlugin,
} from "#plugins/types.ts";

/** What the daemon's main knows and a plugin must not ask the process for. */
export interface RuntimeHost {
  readonly sys: Syscalls;
  readonly spawn: SpawnProcess;
  /** The process's one reaper. */
  readonly reaper: Reaper;
  /**
   * The environment that shims and runtimes get. `CONTAINERD_NOFILE_SOFT` in it is the soft limit
   * of containers.
   */
  readonly env: Readonly<Record<string, string>>;
  /** The daemon's own command. */
  readonly containerdBinary: string;
  /** The command of the supervisor: `bin/containerd-shim-runc-v2`. */
  readonly supervisorBinary: string;
  readonly version: string;
  readonly logLevel: LogLevel;
  /** Where third-party shims' log lines go as they come. */
  readonly logSink: LogSink;
}

/** A socket's path has 106 characters at most, the name in it 64. */
const socketDirLengthMax = 42;
const defaultSocketDir = "/run/containerd/s";
const taskUri = "io.containerd.runtime.v2.task";

const timeoutName = (what: keyof ShimTimeouts): string => `io.containerd.timeout.shim.${what}`;

const managerConfig = pluginConfig(
  v.object({
    env: v.array(v.string()),
    socket_dir: v.string(),
    /** Ours alone: which containers share a supervisor. */
    grouping: v.picklist(groupings),
    /** Ours too: whether a supervisor is started ahead, so that the first container need not wait for one. */
    standby: v.boolean(),
  }),
  { env: [], socket_dir: "", grouping: "namespace" as const, standby: true },
  migrateSchedCore,
);

export function shimManager(host: RuntimeHost) {
  return definePlugin({
    type: ShimPlugin,
    id: "manager",
    requires: { metadata: one(MetadataPlugin), events: one(EventPlugin) },
    config: managerConfig,
    timeouts: {
      [timeoutName("load")]: defaultShimTimeouts.load,
      [timeoutName("cleanup")]: defaultShimTimeouts.cleanup,
      [timeoutName("shutdown")]: defaultShimTimeouts.shutdown,
    },
    async init({ ctx, needs, config, rootDir, stateDir, failpoints, timeoutMs, ...addresses }) {
      const { grpcAddress, ttrpcAddress } = addresses;
      const state = dirname(stateDir);
      const shimEnv = parseEnvironment(config.env);
      return new ShimManager({
        lifetime: ctx,
        roots: { root: join(dirname(rootDir), taskUri), state: join(state, taskUri) },
        host: {
          programs: new SpawnedPrograms(host),
          grpcAddress,
          ttrpcAddress,
          socketDir: socketDirOf(config.socket_dir, state),
          containerdBinary: host.containerdBinary,
          version: host.version,
          logLevel: host.logLevel,
          env: host.env,
          shimEnv,
        },
        search: { daemonDir: dirname(host.containerdBinary), path: host.env["PATH"] ?? "" },
        supervisorBinary: host.supervisorBinary,
        hasStandby: config.standby,
        groups: {
          grouping: config.grouping,
          hasSchedCore: (shimEnv["SCHED_CORE"] ?? host.env["SCHED_CORE"] ?? "") !== "",
          oomScore: Number(await readFile("/proc/self/oom_score_adj", "utf8")),
        },
        publisher: needs.events,
        containers: needs.metadata.containers,
        sandboxes: needs.metadata.sandboxes,
        dial: dialShim,
        keep: (within, path) => DescriptorKeeper.connect(within, host.sys, path),
        unmount: bundleUnmount(host.sys),
        mkfifo: (path, mode) => host.sys.mkfifo(path, mode),
        logSink: host.logSink,
        failpoints,
        timeouts: {
          load: timeoutMs(timeoutName("load")),
          cleanup: timeoutMs(timeoutName("cleanup")),
          shutdown: timeoutMs(timeoutName("shutdown")),
        },
      });
    },
  });
}

export function taskRuntime({ sys }: Pick<RuntimeHost, "sys">) {
  return definePlugin({
    type: RuntimePlugin,
    id: "task",
    requires: {
      shims: one(ShimPlugin),
      mounts: optional(MountManagerPlugin),
      deprecations: byId(WarningPlugin, "deprecations"),
    },
    config: pluginConfig(v.object({ platforms: v.array(v.string()) }), {
      platforms: [`linux/${process.arch === "x64" ? "amd64" : process.arch}`],
    }),
    async init({ ctx, needs, config, platforms, exports }) {
      platforms.push(...config.platforms.map(parsePlatform));
      exports.set("log-uri-schemes", "fifo,binary,binary-v2,file");
      const { roots } = needs.shims.options;
      // The state's parents let a remapped root through to its bundle.
      for (const dir of [roots.root, roots.state]) {
        await mkdir(dir, { recursive: true, mode: 0o711 });
      }
      await loadShims(ctx, needs.shims, taskPlace(needs.shims));
      if (!isCgroupV2(sys)) needs.deprecations.emit("io.containerd.deprecation/cgroup-v1");
      return new ShimTaskRuntime(needs.shims, needs.mounts);
    },
  });
}

/** Whether version 2 is all there is: a hierarchy beside those of version 1 does not count. */
function isCgroupV2(sys: Pick<Syscalls, "statfs">): boolean {
  try {
    return sys.statfs("/sys/fs/cgroup").type === FS_MAGIC.CGROUP2;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

function socketDirOf(configured: string, state: string): string {
  if (configured === "") {
    const ours = join(state, "s");
    return ours.length <= socketDirLengthMax ? ours : defaultSocketDir;
  }
  if (!isAbsolute(configured)) {
    throw invalidArgument(`socket_dir must be an absolute path: ${JSON.stringify(configured)}`);
  }
  const directory = normalize(configured);
  if (directory.length > socketDirLengthMax) {
    throw invalidArgument(
      `socket_dir length must be no longer than ${socketDirLengthMax} characters`,
    );
  }
  return directory;
}

function parseEnvironment(lines: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    lines.map((line) => {
      const equals = line.indexOf("=");
      if (equals <= 0) throw invalidArgument(`env: ${JSON.stringify(line)} is not NAME=VALUE`);
      return [line.slice(0, equals), line.slice(equals + 1)];
    }),
  );
}

function parsePlatform(text: string): PluginPlatform {
  const [os, architecture, variant, ...rest] = text.split("/");
  if (!os || !architecture || rest.length > 0) {
    throw invalidArgument(`platforms: ${JSON.stringify(text)} is not os/architecture[/variant]`);
  }
  return { os, architecture, ...(variant && { variant }) };
}

/** `sched_core` of the task plugin became an environment variable of shims. */
function migrateSchedCore(_fromVersion: number, sections: Record<string, unknown>): void {
  const task = sections[taskUri];
  if (typeof task !== "object" || task === null || !("sched_core" in task)) return;
  const { sched_core: schedCore, ...rest } = task;
  sections[taskUri] = rest;
  if (schedCore !== true) return;
  const uri = "io.containerd.shim.v1.manager";
  // -- a table or nothing
  sections[uri] = { ...(sections[uri] as object | undefined), env: ["SCHED_CORE=1"] };
}
