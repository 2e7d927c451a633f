import { type BootstrapResult, tryParseBootstrapJson } from "#core/runtime/bootstrap.ts";
import type { ShimDialer } from "#core/runtime/shim-connection.ts";
import { type ShimHost, shimEnvironment } from "#core/runtime/shim-command.ts";
import { Supervisor, type SupervisorGroup } from "#core/runtime/supervisor.ts";
import { within } from "#core/runtime/within.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, wrap } from "#pkg/errors.ts";

/** Kept in the metadata of `bootstrap.json`: it tells a bundle of ours from a third-party shim's. */
const groupKey = "io.containerd-ts.supervisor.group";

export interface SupervisorPoolOptions {
  readonly lifetime: Context;
  readonly host: ShimHost;
  /** The command that starts one. */
  readonly binary: string;
  /** Where the bundles are, a directory for each namespace. */
  readonly stateDir: string;
  readonly dial: ShimDialer;
  /** A successor serves the users of one that died. */
  onReplaced(supervisor: Supervisor): void;
  onGivenUp(supervisor: Supervisor, error: unknown): void;
}

/** The supervisors of all groups, each there while somebody uses it. */
export class SupervisorPool {
  readonly #options: SupervisorPoolOptions;
  readonly #supervisors = new Map<string, Supervisor>();

  constructor(options: SupervisorPoolOptions) {
    this.#options = options;
  }

  /** The group's supervisor with the bundle among its users. */
  join(group: SupervisorGroup, bundleId: string): Supervisor {
    const key = `${group.namespace}/${group.id}`;
    let supervisor = this.#supervisors.get(key);
    if (!supervisor) {
      supervisor = this.#create(key, group);
      this.#supervisors.set(key, supervisor);
    }
    supervisor.join(bundleId);
    return supervisor;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#supervisors.values()].map((supervisor) => supervisor.close()));
    this.#supervisors.clear();
  }

  #create(key: string, group: SupervisorGroup): Supervisor {
    const { lifetime, dial } = this.#options;
    const supervisor = new Supervisor(group, {
      lifetime,
      dial,
      launch: (ctx) => launchSupervisor(ctx, group, this.#options),
      events: {
        onReplaced: () => this.#options.onReplaced(supervisor),
        onGivenUp: (error) => this.#options.onGivenUp(supervisor, error),
        onIdle: () => {
          if (this.#supervisors.get(key) === supervisor) this.#supervisors.delete(key);
        },
      },
    });
    return supervisor;
  }
}

/** One supervisor for a namespace. */
export function defaultGroup(namespace: string): SupervisorGroup {
  return { namespace, id: namespace };
}

export function withGroup(bootstrap: BootstrapResult, group: SupervisorGroup): BootstrapResult {
  return { ...bootstrap, metadata: { ...bootstrap.metadata, [groupKey]: group.id } };
}

/** Undefined for a bundle of another shim's. */
export function groupOf(
  bootstrap: BootstrapResult,
  namespace: string,
): SupervisorGroup | undefined {
  const id = bootstrap.metadata[groupKey];
  return id === undefined ? undefined : { namespace, id };
}

async function launchSupervisor(
  ctx: Context,
  group: SupervisorGroup,
  { host, binary, stateDir }: SupervisorPoolOptions,
): Promise<BootstrapResult> {
  const program = host.programs.launch({
    path: binary,
    args: supervisorArguments(group, host, stateDir),
    // As many threads for the runtimes it starts as upstream's shim leaves them.
    env: { ...shimEnvironment(host, group.namespace), GOMAXPROCS: "4" },
    cwd: "/",
  });
  let announcement: string;
  try {
    announcement = await within(ctx, program.announcement);
  } catch (error) {
    program.kill();
    throw wrap(`supervisor ${program.pid} is not ready`, error);
  }
  const bootstrap = tryParseBootstrapJson(announcement.trim());
  if (bootstrap && bootstrap.address !== "") return bootstrap;
  const failure = await within(ctx, program.exited);
  throw new CodedError(
    "unknown",
    `supervisor did not start: ${failure || `it said ${JSON.stringify(announcement.slice(0, 200))}`}`,
  );
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
    ...(isVerbose ? ["-debug"] : []),
    "supervise",
  ];
}
