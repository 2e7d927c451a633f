import type { ContainerStore } from "#core/containers/containers.ts";
import { taskDelete, taskExit } from "#core/events/convert.ts";
import type { Publisher } from "#core/events/events.ts";
import { topics } from "#core/events/topics.ts";
import { BinaryLink } from "#core/runtime/binary-link.ts";
import { type BootstrapResult, formatBootstrap } from "#core/runtime/bootstrap.ts";
import {
  type Bundle,
  type BundleRoots,
  deleteBundle,
  type Unmount,
  writeBundleFile,
} from "#core/runtime/bundle.ts";
import type { KeeperDialer } from "#core/runtime/descriptor-keeper.ts";
import type { ProcessExit, SandboxRef } from "#core/runtime/runtime.ts";
import { sandboxBootstrap } from "#core/runtime/sandbox-shim.ts";
import { findShimBinary, runcRuntime, type ShimSearch } from "#core/runtime/shim-binary.ts";
import { ShimCommand, type ShimHost } from "#core/runtime/shim-command.ts";
import type { ShimDialer } from "#core/runtime/shim-connection.ts";
import { type LogSink, readShimLog } from "#core/runtime/shim-log.ts";
import { ShimRecord, ShimRecords } from "#core/runtime/shim-record.ts";
import { type Supervisor, SupervisorLink } from "#core/runtime/supervisor.ts";
import {
  groupFor,
  groupOf,
  type GroupSettings,
  type SupervisorGroup,
  withGroup,
} from "#core/runtime/supervisor-group.ts";
import { SupervisorPool } from "#core/runtime/supervisor-pool.ts";
import type { SandboxStore } from "#core/sandbox/sandbox.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import { alreadyExists, isNotFound, wrap } from "#pkg/errors.ts";
import { nowNanos } from "#pkg/time.ts";

export interface ShimManagerOptions {
  /** The daemon's; its logger too. */
  readonly lifetime: Context;
  readonly roots: BundleRoots;
  readonly host: ShimHost;
  readonly search: ShimSearch;
  /** The command of the daemon's own supervisor. */
  readonly supervisorBinary: string;
  /** Which containers share one. */
  readonly groups: GroupSettings;
  readonly publisher: Publisher;
  readonly containers: Pick<ContainerStore, "get">;
  readonly sandboxes: Pick<SandboxStore, "get">;
  readonly dial: ShimDialer;
  /** Undefined keeps nothing of a supervisor's: a terminal then ends with it. */
  readonly keep?: KeeperDialer;
  readonly unmount: Unmount;
  readonly mkfifo: (path: string, mode: number) => void;
  readonly logSink: LogSink;
  readonly timeouts: ShimTimeouts;
  readonly failpoints?: Failpoints;
  /** How long a supervisor stays for the next task. */
  readonly supervisorLingerMs?: number;
  /** Whether a supervisor is started before there is a container for it. */
  readonly hasStandby?: boolean;
}

const defaultLingerMs = 10_000;

/** What of a new task decides about its shim. */
export interface StartRequest {
  readonly runtime: string;
  readonly options: Any | undefined;
  readonly sandbox: SandboxRef | undefined;
  readonly spec: Any | undefined;
}

/** io.containerd.timeout.shim.* of upstream, in milliseconds. */
export interface ShimTimeouts {
  /** One budget for each bundle at the daemon's start, whatever its shim does. */
  readonly load: number;
  readonly cleanup: number;
  readonly shutdown: number;
}

export const defaultShimTimeouts: ShimTimeouts = { load: 5_000, cleanup: 5_000, shutdown: 3_000 };

/**
 * Starts shims, keeps what it knows of them and cleans up after those that die.
 *
 * Disposing closes the connections; shims and containers go on, and a later daemon finds them
 * through the bundles.
 */
export class ShimManager implements AsyncDisposable {
  readonly records: ShimRecords = new ShimRecords();
  readonly options: ShimManagerOptions;
  readonly failpoints: Failpoints;
  readonly #pool: SupervisorPool;
  readonly #commands = new Map<string, ShimCommand>();
  readonly #background = new Set<Promise<unknown>>();
  /** Whose shims are being started, as `namespace/id`. */
  readonly #starting = new Set<string>();
  #isClosed = false;

  constructor(options: ShimManagerOptions) {
    this.options = options;
    this.failpoints = options.failpoints ?? noFailpoints;
    this.#pool = new SupervisorPool({
      lifetime: options.lifetime,
      host: options.host,
      binary: options.supervisorBinary,
      stateDir: options.roots.state,
      dial: options.dial,
      keep: options.keep,
      lingerMs: options.supervisorLingerMs ?? defaultLingerMs,
      grouping: options.groups.grouping,
      hasStandby: options.hasStandby ?? false,
      onReplaced: (supervisor) => this.#inBackground(this.#reconcile(supervisor)),
      onGivenUp: (supervisor, error) => this.#onGivenUp(supervisor, error),
    });
  }

  /**
   * Starts the runtime's shim for a new bundle, or joins the one of its sandbox. On failure the
   * bundle is left, and of a shim what its `delete` command cannot end.
   */
  async start(ctx: Context, bundle: Bundle, request: StartRequest): Promise<ShimRecord> {
    const { namespace, id } = bundle;
    const claim = `${namespace}/${id}`;
    // A task and a sandbox have bundles of their own: one that comes second must not start a shim that none knows.
    if (this.#starting.has(claim) || this.records.get(namespace, id)) {
      throw alreadyExists(`task ${id}`);
    }
    this.#starting.add(claim);
    try {
      const record = await this.#startOrJoin(ctx, bundle, request);
      this.records.add(record);
      return record;
    } finally {
      this.#starting.delete(claim);
    }
  }

  /**
   * The supervised bundle's record. Its task is not looked at.
   *
   * With `resume` the supervisor may have died meanwhile and its successor fail to start in time:
   * the record stands all the same, and each later call tries again. No container is given up for
   * that.
   */
  async attachSupervised(
    ctx: Context,
    bundle: Bundle,
    group: SupervisorGroup,
    resume?: BootstrapResult,
  ): Promise<ShimRecord> {
    await using undo = new AsyncDisposableStack();
    const supervisor = this.#pool.join(group, bundle.id);
    undo.defer(() => supervisor.release(bundle.id));
    let bootstrap = resume;
    try {
      if (bootstrap) await supervisor.resume(ctx, bootstrap);
      ({ bootstrap } = await supervisor.serving(ctx));
    } catch (error) {
      if (!bootstrap) throw error;
      ctx.logger.error("supervisor cannot be reached", { error });
    }
    return new ShimRecord({
      bundle,
      link: new SupervisorLink(supervisor, bundle.id, withGroup(bootstrap, group)),
      command: this.command(this.options.supervisorBinary),
      resources: undo.move(),
    });
  }

  /** The record of a third-party shim that serves; its loss is cleaned up after once it is live. */
  async attachBinary(
    ctx: Context,
    bundle: Bundle,
    how: {
      readonly bootstrap: BootstrapResult;
      readonly command: ShimCommand;
      readonly resources: AsyncDisposableStack;
      /** It was there before this bundle, and stays when its task does not come to be. */
      readonly isJoined?: boolean;
    },
  ): Promise<ShimRecord> {
    await using undo = how.resources;
    const transport = await this.options.dial(ctx, how.bootstrap);
    const rollsBack = how.isJoined === true;
    const link = new BinaryLink(bundle.id, how.bootstrap, transport, { rollsBack });
    undo.defer(() => link.close());
    const record = new ShimRecord({
      bundle,
      link,
      command: how.command,
      resources: undo.move(),
    });
    void link.lost.then(() => {
      if (record.phase === "live") void this.cleanUp(record);
    });
    return record;
  }

  /** Ends supervisors that a killed daemon left without a task; after its bundles are loaded. */
  endForgotten(ctx: Context, namespace: string): Promise<void> {
    return this.#pool.endForgotten(ctx, namespace);
  }

  command(path: string): ShimCommand {
    const known = this.#commands.get(path);
    if (known) return known;
    const command = new ShimCommand(path, this.options.host);
    this.#commands.set(path, command);
    return command;
  }

  async findCommand(runtime: string): Promise<ShimCommand> {
    return this.command(await findShimBinary(runtime, this.options.search));
  }

  readLog(bundle: Bundle): Promise<AsyncDisposable> {
    return readShimLog(bundle, this.options.mkfifo, this.options.logSink);
  }

  /**
   * Cleans up after a shim that is lost: its `delete` command, then the exit and delete events that
   * it owes, then the bundle and the record. Nothing is sent where the task had been deleted
   * already. Concurrent calls share one run.
   *
   * Resolves with how the task ended where the command said so. The bundle of a failed command
   * stays for the next start.
   */
  cleanUp(record: ShimRecord): Promise<ProcessExit | undefined> {
    if (!record.cleanup) {
      record.cleanup = this.#cleanUp(record);
      this.#inBackground(record.cleanup);
    }
    return record.cleanup;
  }

  /** Removes every trace of a task that was deleted, or never came to be. */
  async forget(record: ShimRecord): Promise<void> {
    const { logger } = this.options.lifetime;
    record.phase = "ending";
    await record.close();
    try {
      await deleteBundle(record.bundle, this.options.unmount);
    } catch (error) {
      logger.error("failed to delete bundle", { id: record.id, error });
    }
    this.records.delete(record);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    // First: a record that closes must not find its supervisor without users and end it.
    await this.#pool.close();
    await Promise.all(this.records.list().map((record) => record.close()));
    await Promise.all(this.#background);
  }

  async #startOrJoin(ctx: Context, bundle: Bundle, request: StartRequest): Promise<ShimRecord> {
    const { sandbox, runtime } = request;
    const bootstrap = sandbox && (await sandboxBootstrap(ctx, this, bundle.namespace, sandbox));
    if (bootstrap) {
      await writeBundleFile(bundle, "sandbox", sandbox.id, 0o600);
      const isForeign = groupOf(bootstrap, bundle.namespace) === undefined;
      if (isForeign) return this.#joinBinary(ctx, bundle, { runtime, bootstrap });
    }
    return runtime === runcRuntime
      ? this.#startSupervised(ctx, bundle, request)
      : this.#startBinary(ctx, bundle, request);
  }

  /** The bundle's share in a shim that serves already. */
  async #joinBinary(
    ctx: Context,
    bundle: Bundle,
    { runtime, bootstrap }: { readonly runtime: string; readonly bootstrap: BootstrapResult },
  ): Promise<ShimRecord> {
    const command = await this.findCommand(runtime);
    await using undo = new AsyncDisposableStack();
    await writeBundleFile(bundle, "shim-binary-path", command.path, 0o600);
    await writeBootstrap(bundle, bootstrap);
    undo.use(await this.readLog(bundle));
    return this.attachBinary(ctx, bundle, {
      bootstrap,
      command,
      resources: undo.move(),
      isJoined: true,
    });
  }

  async #startSupervised(ctx: Context, bundle: Bundle, request: StartRequest): Promise<ShimRecord> {
    const { id, namespace } = bundle;
    const sandboxId = request.sandbox?.id ?? "";
    const group = groupFor({ ...request, id, namespace, sandboxId }, this.options.groups);
    await writeBundleFile(bundle, "shim-binary-path", this.options.supervisorBinary, 0o600);
    const record = await this.attachSupervised(ctx, bundle, group);
    try {
      await writeBootstrap(bundle, record.link.bootstrap);
    } catch (error) {
      await record.close();
      throw error;
    }
    return record;
  }

  async #startBinary(
    ctx: Context,
    bundle: Bundle,
    { runtime, options }: StartRequest,
  ): Promise<ShimRecord> {
    const command = await this.findCommand(runtime);
    await using undo = new AsyncDisposableStack();
    undo.use(await this.readLog(bundle));
    await writeBundleFile(bundle, "shim-binary-path", command.path, 0o600);
    try {
      const bootstrap = await command.start(ctx, bundle, options);
      await writeBootstrap(bundle, bootstrap);
      const resources = undo.move();
      return await this.attachBinary(ctx, bundle, { bootstrap, command, resources });
    } catch (error) {
      // It may serve where nobody can reach it, whatever its command made of that.
      await command
        .delete(ctx.detached({ timeoutMs: this.options.timeouts.cleanup }), bundle)
        .catch((problem: unknown) => {
          ctx.logger.warn("failed to clean up shim", { id: bundle.id, error: problem });
        });
      throw wrap("start failed", error);
    }
  }

  async #cleanUp(record: ShimRecord): Promise<ProcessExit | undefined> {
    const { lifetime, unmount } = this.options;
    const ctx = lifetime
      .withNamespace(record.namespace)
      .detached({ timeoutMs: this.options.timeouts.cleanup });
    const { id, bundle } = record;
    ctx.logger.info("cleaning up after shim disconnected", { id });
    let exit: ProcessExit | undefined;
    try {
      exit = await record.command.delete(ctx, bundle);
    } catch (error) {
      ctx.logger.warn("failed to clean up after shim disconnected", { id, error });
    }
    if (this.records.get(record.namespace, id) !== record) return exit;
    if (!record.deleted) {
      await this.publishEnd(ctx, bundle, exit).catch((error: unknown) => {
        ctx.logger.error("failed to publish the end of a task", { id, error });
      });
    }
    try {
      await record.close();
      if (exit) await deleteBundle(bundle, unmount);
    } finally {
      // Last: who does not find it any more may take its name.
      this.records.delete(record);
    }
    return exit;
  }

  /** The events that a dead shim owes; 255 where nobody knows how its task ended. */
  async publishEnd(ctx: Context, bundle: Bundle, exit: ProcessExit | undefined): Promise<void> {
    const { publisher } = this.options;
    const end = {
      containerId: bundle.id,
      ...(exit ?? { pid: 0, exitStatus: 255, exitedAt: nowNanos() }),
    };
    await publisher.publish(ctx, topics.taskExit, taskExit({ ...end, id: bundle.id }));
    await publisher.publish(ctx, topics.taskDelete, taskDelete({ ...end, id: "" }));
  }

  /** After a successor took over: tasks that it does not know died with their supervisor. */
  async #reconcile(supervisor: Supervisor): Promise<void> {
    for (const record of this.#usersOf(supervisor)) {
      const ctx = this.options.lifetime
        .withNamespace(record.namespace)
        .withTimeout(this.options.timeouts.cleanup);
      try {
        await record.link.ask(ctx, (tasks) => tasks.state(ctx, { id: record.id, execId: "" }));
      } catch (error) {
        if (isNotFound(error)) await this.cleanUp(record);
        else ctx.logger.warn("cannot ask supervisor for task", { id: record.id, error });
      }
    }
  }

  #onGivenUp(supervisor: Supervisor, error: unknown): void {
    const { logger } = this.options.lifetime;
    logger.error("supervisor is lost", { namespace: supervisor.group.namespace, error });
    for (const record of this.#usersOf(supervisor)) void this.cleanUp(record);
  }

  #usersOf({ group, users }: Supervisor): ShimRecord[] {
    return this.records
      .list(group.namespace)
      .filter(
        (record) =>
          record.phase === "live" && record.link instanceof SupervisorLink && users.has(record.id),
      );
  }

  #inBackground(work: Promise<unknown>): void {
    if (this.#isClosed) return;
    const done = work
      .catch((error: unknown) => {
        this.options.lifetime.logger.error("cleaning up after shim", { error });
      })
      .finally(() => this.#background.delete(done));
    this.#background.add(done);
  }
}

async function writeBootstrap(bundle: Bundle, bootstrap: BootstrapResult): Promise<void> {
  await writeBundleFile(bundle, "bootstrap.json", formatBootstrap(bootstrap), 0o644);
}
