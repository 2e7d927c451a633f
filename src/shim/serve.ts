import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { mountPrograms } from "#core/mount/mount-program.ts";
import { SpawnedPrograms } from "#core/runtime/spawned-programs.ts";
import { Context } from "#pkg/context.ts";
import { isErrno } from "#pkg/errors.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import type { Logger } from "#pkg/log.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import type { SpawnProcess } from "#pkg/sys/spawn.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { adoptContainers } from "./adopt.ts";
import { BackgroundTasks } from "./background-tasks.ts";
import { Children } from "./children.ts";
import { defaultRuntimeRoot } from "./create-container.ts";
import { EventsProxy } from "./events-proxy.ts";
import { GroupSocket } from "./group-socket.ts";
import { RuntimeProbe } from "./probe.ts";
import { HandoverServer } from "./handover-server.ts";
import type { Inheritance } from "./inherited-ends.ts";
import { Publisher } from "./publisher.ts";
import type { ShimServices } from "./shim-services.ts";
import { untilServedAgain } from "./served-again.ts";
import { socketPath } from "./socket-address.ts";
import { Supervisor } from "./supervisor.ts";
import { taskServices } from "./task-service.ts";

const flushTimeoutMs = 5_000;
const closeTimeoutMs = 2_000;

export interface ServeOptions {
  readonly sys: Syscalls;
  readonly spawn: SpawnProcess;
  readonly logger: Logger;
  readonly namespace: string;
  readonly group: string;
  /** `unix:///...`, see `socketAddress`. */
  readonly address: string;
  /** Where the daemon is given what a successor would need. */
  readonly handoverPath: string;
  /** The daemon's ttrpc socket, where events go. */
  readonly eventsPath: string;
  /** Environment of runtimes and loggers. */
  readonly env: Readonly<Record<string, string>>;
  readonly searchPath: string;
  readonly nofileSoft: number | undefined;
  /** Directory of the bundles whose containers are to be taken over. */
  readonly stateDir: string | undefined;
  /** What the daemon has kept of the supervisor before this one; closed here. */
  readonly inheritance: Inheritance;
  readonly failpoints: Failpoints;
  /** Ends the supervisor without ending its containers. */
  readonly signal: AbortSignal;
  /** Called when it can be reached. */
  readonly onReady: () => void;
}

/**
 * Supervises the containers of one group until there are none and somebody says `Shutdown`, or
 * until `signal` aborts; then its containers go on without it and a successor takes them over.
 *
 * Resolves with `taken` when another process supervises the group already, else with `ended`. The
 * process must be one that nothing else starts children in: every child is reaped here.
 *
 * The contract with a daemon:
 * - it is started as `containerd-shim-runc-v2 -namespace NS -id GROUP -address DAEMON -state DIR
 * -socket-dir DIR supervise` in a session of its own, with `TTRPC_ADDRESS` in the environment, and
 * says on standard output where it can be reached, when it can (`onReady`);
 * - it serves `containerd.task.v3.Task` and `v2.Task` for any number of containers: `Create` names
 * the bundle, the mounts of its root and runc's options, as for a shim of one container;
 * - it writes into the bundle `options.json`, `runtime`, `init.pid`, `log.json`, `exit.json` (as
 * upstream) and `task.json`, by which a successor knows a task; the daemon removes the bundle,
 * after `Delete`;
 * - with `-state` it hands duplicates of descriptors over (`handover.ts`): its announcement names
 * where, and its standard input may name what it inherits;
 * - it forwards events, in order, and goes on trying while the daemon restarts;
 * - `Shutdown` while there is a container does nothing. Otherwise the socket's name is gone before
 * the answer, and a `Create` that comes later still is refused with `unavailable`, nothing done.
 * Whoever is about to create calls `Connect` with the new id first: that keeps it for ten seconds.
 */
export async function serveGroup(options: ServeOptions): Promise<"taken" | "ended"> {
  const { sys, logger, namespace, group } = options;
  await using stack = new AsyncDisposableStack();
  const ctx = Context.background({ logger });
  const ended = Promise.withResolvers<void>();
  const server = new TtrpcServer({ logger });
  // The name is taken first, so that no two adopt the same containers; who connects waits.
  const serving = Promise.withResolvers<void>();
  using inheritance = options.inheritance;
  const socket = await GroupSocket.bind(sys, socketPath(options.address), (connection) => {
    void serving.promise.then(() => server.serve(connection));
  });
  if (socket === undefined) return "taken";
  stack.defer(() => socket.release());

  sys.setChildSubreaper("on");
  const reaper = stack.use(new Reaper({ sys, mode: "all" }));
  const children = new Children({ ...options, reaper });
  const events = stack.use(new EventsProxy(ctx, options.eventsPath));
  const sleep = untilServedAgain(options.eventsPath);
  const publisher = new Publisher({ namespace, forward: events.forward, logger, sleep });
  const handover =
    options.stateDir === undefined
      ? undefined
      : stack.use(await HandoverServer.listen(ctx, sys, options.handoverPath));
  const services: ShimServices = {
    sys,
    logger,
    ctx,
    namespace,
    group,
    reaper,
    children,
    runProgram: mountPrograms(new SpawnedPrograms({ ...options, reaper }), {
      ...options.env,
      PATH: options.searchPath,
    }),
    probe: new RuntimeProbe(children, options.searchPath, logger),
    tasks: new BackgroundTasks(logger),
    publish: (event, onSettled) => publisher.publish(event, onSettled),
    handover,
    failpoints: options.failpoints,
  };
  // Before the name of the group: the next one takes both.
  const release = (): void => {
    handover?.close();
    socket.release();
  };
  const supervisor = new Supervisor(services, () => {
    release();
    ended.resolve();
  });
  if (options.stateDir !== undefined) {
    await adoptContainers(services, supervisor, { stateDir: options.stateDir, inheritance });
  }
  inheritance[Symbol.dispose]();
  for (const service of taskServices(supervisor)) server.add(service);
  serving.resolve();
  options.signal.addEventListener("abort", () => ended.resolve(), { once: true });
  options.onReady();
  await ended.promise;
  // First: what ends from now on is the successor's to see.
  reaper[Symbol.dispose]();
  release();
  socket.server.close();
  await Promise.all([publisher.flush(flushTimeoutMs), server.close({ timeoutMs: closeTimeoutMs })]);
  if (options.stateDir !== undefined && group === namespace) await removeRuntimeRoot(namespace);
  return "ended";
}

// Only by the one supervisor of a namespace: a runtime of another may be about to make a state
// below.
async function removeRuntimeRoot(namespace: string): Promise<void> {
  try {
    await rmdir(join(defaultRuntimeRoot, namespace));
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ENOTEMPTY")) throw error;
  }
}
