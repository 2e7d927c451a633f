import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type BootstrapResult,
  formatBootstrap,
  tryParseBootstrapJson,
  tryParseFailedStart,
} from "#core/runtime/bootstrap.ts";
import type { HeldProcess, KeeperDialer } from "#core/runtime/descriptor-keeper.ts";
import { formatManifest, handoverKey } from "#core/runtime/handover.ts";
import type { LaunchedProgram } from "#core/runtime/program.ts";
import type { ShimDialer } from "#core/runtime/shim-connection.ts";
import { type ShimHost, shimEnvironment } from "#core/runtime/shim-command.ts";
import { formatOrder, Standby } from "#core/runtime/standby.ts";
import { Supervisor } from "#core/runtime/supervisor.ts";
import type { Grouping, SupervisorGroup } from "#core/runtime/supervisor-group.ts";
import { TaskProxy } from "#core/runtime/task-proxy.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, isErrno, wrap } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";

export interface SupervisorPoolOptions {
  readonly lifetime: Context;
  readonly host: ShimHost;
  /** The command that starts one. */
  readonly binary: string;
  /** Where the bundles are, a directory for each namespace. */
  readonly stateDir: string;
  readonly dial: ShimDialer;
  /** Undefined keeps nothing: a terminal then ends with its supervisor. */
  readonly keep: KeeperDialer | undefined;
  readonly lingerMs: number;
  readonly grouping: Grouping;
  /** Whether one is started ahead, for the next group that is to come. */
  readonly hasStandby: boolean;
  /** A successor serves the users of one that died. */
  onReplaced(supervisor: Supervisor): void;
  onGivenUp(supervisor: Supervisor, error: unknown): void;
}

const filePrefix = ".supervisor-";
/** For one that an earlier daemon left without a task. */
const forgottenTimeoutMs = 2_000;
const standbyDelayMs = 2_000;
/** Of the id of a namespace, and of a group. */
const idLengthMax = 76;

/**
 * The supervisors of all groups, each there while somebody uses it and a little longer.
 *
 * A file beside the bundles, `.supervisor-<group>`, says where each serves: a daemon that is killed
 * leaves no process that the next one does not find.
 */
export class SupervisorPool {
  readonly #options: SupervisorPoolOptions;
  readonly #supervisors = new Map<string, Supervisor>();
  readonly #removals = new Set<Promise<void>>();
  readonly #standby: Standby;

  constructor(options: SupervisorPoolOptions) {
    this.#options = options;
    const { logger } = options.lifetime;
    const launch = (): LaunchedProgram => launchStandby(options);
    const isWanted = (): boolean => this.#wantsStandby();
    this.#standby = new Standby({ launch, isWanted, delayMs: standbyDelayMs, logger });
    this.#standby.prepare();
  }

  /** The group's supervisor with the bundle among its users. */
  join(group: SupervisorGroup, bundleId: string): Supervisor {
    const key = keyOf(group);
    let supervisor = this.#supervisors.get(key);
    if (!supervisor) {
      supervisor = this.#create(group);
      this.#supervisors.set(key, supervisor);
    }
    supervisor.join(bundleId);
    return supervisor;
  }

  /** Ends the supervisors of a namespace that an earlier daemon left without a bundle. */
  async endForgotten(ctx: Context, namespace: string): Promise<void> {
    const { stateDir } = this.#options;
    for (const name of await fileNames(join(stateDir, namespace))) {
      if (!name.startsWith(filePrefix)) continue;
      const group = { namespace, id: name.slice(filePrefix.length) };
      if (this.#supervisors.has(keyOf(group))) continue;
      const path = join(stateDir, namespace, name);
      await this.#end(ctx.withTimeout(forgottenTimeoutMs), path);
      await rm(path, { force: true });
    }
  }

  /** Those without users end; the others are left alone. */
  async close(): Promise<void> {
    this.#standby[Symbol.dispose]();
    await Promise.all([...this.#supervisors.values()].map((supervisor) => supervisor.close()));
    this.#supervisors.clear();
    await Promise.all(this.#removals);
  }

  async #end(ctx: Context, path: string): Promise<void> {
    const bootstrap = tryParseBootstrapJson(await readFile(path, "utf8"));
    if (!bootstrap) return;
    try {
      await using transport = await this.#options.dial(ctx, bootstrap);
      await new TaskProxy(transport, bootstrap.version).shutdown(ctx, "");
      await settledOrAborted(transport.closed, ctx);
    } catch (error) {
      // Gone, as a rule; its end may also overtake the answer.
      ctx.logger.debug("supervisor without tasks", { address: bootstrap.address, error });
    }
  }

  #create(group: SupervisorGroup): Supervisor {
    const { lifetime, dial, keep, lingerMs, stateDir } = this.#options;
    const file = join(stateDir, group.namespace, `${filePrefix}${group.id}`);
    const supervisor = new Supervisor(group, {
      lifetime,
      dial,
      keep: async (ctx, { metadata }) => {
        const path = metadata[handoverKey];
        return path === undefined ? undefined : keep?.(ctx, path);
      },
      lingerMs,
      launch: async (ctx, kept) => {
        const bootstrap = await this.#launch(ctx, group, kept);
        // Of one that has just ended: the same name.
        await Promise.all(this.#removals);
        await writeFile(`${file}.new`, formatBootstrap(bootstrap), { mode: 0o600 });
        await rename(`${file}.new`, file);
        return bootstrap;
      },
      events: {
        onReplaced: () => this.#options.onReplaced(supervisor),
        onGivenUp: (error) => this.#options.onGivenUp(supervisor, error),
        onEnded: ({ isGone }) => this.#forget(group, supervisor, isGone ? file : undefined),
      },
    });
    return supervisor;
  }

  async #launch(
    ctx: Context,
    group: SupervisorGroup,
    kept: readonly HeldProcess[],
  ): Promise<BootstrapResult> {
    // What is inherited comes with the start of a process, and so does a cgroup that it joins.
    const isPlain = kept.length === 0 && group.cgroup === "";
    const standby = isPlain ? this.#standby.take() : undefined;
    try {
      if (standby) return await orderSupervisor(ctx, group, { ...this.#options, standby });
    } catch (error) {
      ctx.throwIfEnded();
      ctx.logger.warn("a supervisor that was started ahead does not serve", { error });
    } finally {
      this.#standby.prepare();
    }
    return launchSupervisor(ctx, group, { ...this.#options, kept });
  }

  /** Where containers share a supervisor by their namespace, the first one is that of nearly all. */
  #wantsStandby(): boolean {
    const { hasStandby, grouping } = this.#options;
    return hasStandby && (grouping !== "namespace" || this.#supervisors.size === 0);
  }

  /** Without a file the process goes on, and the next daemon is to find it by that. */
  #forget(group: SupervisorGroup, supervisor: Supervisor, file: string | undefined): void {
    if (this.#supervisors.get(keyOf(group)) !== supervisor) return;
    this.#supervisors.delete(keyOf(group));
    this.#standby.prepare();
    if (file === undefined) return;
    const removal = rm(file, { force: true })
      .catch((error: unknown) => {
        this.#options.lifetime.logger.warn("cannot remove file of ended supervisor", { error });
      })
      .finally(() => this.#removals.delete(removal));
    this.#removals.add(removal);
  }
}

function keyOf({ namespace, id }: Pick<SupervisorGroup, "namespace" | "id">): string {
  return `${namespace}/${id}`;
}

async function fileNames(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

async function launchSupervisor(
  ctx: Context,
  group: SupervisorGroup,
  options: SupervisorPoolOptions & { readonly kept: readonly HeldProcess[] },
): Promise<BootstrapResult> {
  const { host, binary, stateDir, kept } = options;
  const program = host.programs.launch({
    path: binary,
    args: supervisorArguments(group, host, stateDir),
    env: supervisorEnvironment(host, group.namespace),
    cwd: "/",
    stdin: formatManifest(kept.map(({ ends, ...name }) => ({ ...name, roles: [...ends.keys()] }))),
    fds: kept.flatMap(({ ends }) => [...ends.values()]),
  });
  return readiness(ctx, program);
}

function launchStandby({ host, binary, stateDir }: SupervisorPoolOptions): LaunchedProgram {
  const longest = "x".repeat(idLengthMax);
  const group = { namespace: longest, id: longest, cgroup: "" };
  const args = supervisorArguments(group, host, stateDir).join(" ");
  return host.programs.launch({
    path: binary,
    // Blanks: where it will show what it serves, as one does that was started for it.
    args: ["standby", " ".repeat(args.length)],
    env: supervisorEnvironment(host, ""),
    cwd: "/",
    stdin: undefined,
    fds: [],
  });
}

function orderSupervisor(
  ctx: Context,
  group: SupervisorGroup,
  { host, stateDir, standby }: SupervisorPoolOptions & { readonly standby: LaunchedProgram },
): Promise<BootstrapResult> {
  standby.feed(formatOrder(supervisorArguments(group, host, stateDir)));
  return readiness(ctx, standby);
}

/** Resolves when it can be reached. */
async function readiness(ctx: Context, program: LaunchedProgram): Promise<BootstrapResult> {
  let announcement: string;
  try {
    announcement = await settledOrAborted(program.announcement, ctx);
  } catch (error) {
    program.kill();
    throw wrap(`supervisor ${program.pid} is not ready`, error);
  }
  const bootstrap = tryParseBootstrapJson(announcement.trim());
  if (bootstrap && bootstrap.address !== "") return bootstrap;
  const words = tryParseFailedStart(announcement);
  if (words !== undefined) throw new CodedError("unknown", words);
  const failure = await settledOrAborted(program.exited, ctx);
  const said = `it said ${JSON.stringify(announcement.slice(0, 200))}`;
  throw new CodedError("unknown", `supervisor did not start: ${failure || said}`);
}

function supervisorEnvironment(host: ShimHost, namespace: string): Record<string, string> {
  // As many threads for the runtimes it starts as upstream's shim leaves them.
  return { ...shimEnvironment(host, namespace), GOMAXPROCS: "4" };
}

function supervisorArguments(
  group: SupervisorGroup,
  host: ShimHost,
  stateDir: string,
): readonly string[] {
  const isVerbose = host.logLevel === "debug" || host.logLevel === "trace";
  return [
    "-namespace",
    group.namespace,
    "-id",
    group.id,
    "-address",
    host.grpcAddress,
    "-state",
    `${stateDir}/${group.namespace}`,
    "-socket-dir",
    host.socketDir,
    ...(group.cgroup === "" ? [] : ["-shim-cgroup", group.cgroup]),
    ...(isVerbose ? ["-debug"] : []),
    "supervise",
  ];
}
