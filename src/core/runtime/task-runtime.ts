import type { MountManager } from "#core/mount/manager.ts";
import { type Bundle, createBundle, deleteBundle } from "#core/runtime/bundle.ts";
import type { CreateTaskOptions, ProcessExit, Task, TaskRuntime } from "#core/runtime/runtime.ts";
import { asksForIdMapping, assertIdMapping } from "#core/runtime/runtime-features.ts";
import {
  type RuntimeInfo,
  type RuntimeRequest,
  runtimeInfoOf,
  runtimeRequestOf,
} from "#core/runtime/runtime-info-convert.ts";
import type { ShimManager, StartRequest } from "#core/runtime/shim-manager.ts";
import type { ShimRecord } from "#core/runtime/shim-record.ts";
import { deleteInShim, ShimTask } from "#core/runtime/shim-task.ts";
import { SupervisorLink } from "#core/runtime/supervisor.ts";
import { TaskMounts, type TaskMountsOptions, type TaskRootfs } from "#core/runtime/task-mounts.ts";
import type { ShimCreateRequest } from "#core/runtime/task-proxy.ts";
import type { Any } from "#pkg/any.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { alreadyExists, hasCode, isNotFound, notFound, unavailable, wrap } from "#pkg/errors.ts";

/** Tasks in shims: one bundle, one shim (or a share in one), one task by the same id. */
export class ShimTaskRuntime implements TaskRuntime {
  readonly #manager: ShimManager;
  readonly #mounts: TaskMounts | undefined;

  /** Without a manager of mounts every mount is the shim's. */
  constructor(manager: ShimManager, mounts?: MountManager) {
    this.#manager = manager;
    const annotations: TaskMountsOptions["annotations"] = async (ctx, runtimePath) =>
      (await this.#info(ctx, { runtimePath, options: undefined })).annotations;
    this.#mounts = mounts && new TaskMounts({ manager: mounts, annotations });
  }

  async create(ctx: Context, id: string, options: CreateTaskOptions): Promise<Task> {
    const namespace = requireNamespace(ctx);
    const { records, options: settings, failpoints } = this.#manager;
    if (records.get(namespace, id)) throw alreadyExists(`task ${id}`);
    await using undo = new AsyncDisposableStack();
    const bundle = await createBundle(settings.roots, { namespace, id, spec: options.spec });
    let isOver = true;
    const undoWhenOver = (step: () => Promise<void>): void => {
      undo.defer(async () => {
        if (isOver) await step();
      });
    };
    undoWhenOver(() => this.#removeBundle(ctx, bundle));
    failpoints.hit("task.bundle-made");
    const shimOptions = hasValue(options.taskOptions)
      ? options.taskOptions
      : options.runtimeOptions;
    const { runtime, sandbox, spec } = options;
    const request = { runtime, sandbox, spec, options: shimOptions };
    let rootfs: TaskRootfs = { rootfs: options.rootfs, isOwn: false };
    // On failure after the shim's end: it may be using them.
    undoWhenOver(() => this.#undoMounts(ctx, id, rootfs));
    const record = await this.#startShim(ctx, bundle, request);
    undo.defer(async () => {
      isOver = await this.#endFailed(ctx, record);
    });
    failpoints.hit("task.shim-recorded");
    if (this.#mounts) {
      const { bootstrap } = record.link;
      rootfs = await this.#mounts.activate(ctx, { id, runtime, bootstrap }, options.rootfs);
    }
    if (asksForIdMapping(spec)) {
      assertIdMapping(await this.#features(ctx, { runtimePath: runtime, options: shimOptions }));
    }
    let pid: number;
    try {
      pid = await this.#createInShim(ctx, record, {
        bundle: bundle.path,
        rootfs: rootfs.rootfs,
        io: options.io,
        options: shimOptions,
      });
    } catch (error) {
      throw wrap("failed to create shim task", error);
    }
    failpoints.hit("task.created");
    // No turn of the loop between the two: a loss from here on is cleaned up by the manager.
    if (record.link.isLost) throw unavailable(`shim of task ${id} is gone`);
    record.phase = "live";
    undo.move();
    return this.#task(record, pid);
  }

  async get(ctx: Context, id: string): Promise<Task> {
    return this.#task(this.#record(ctx, id));
  }

  async list(
    ctx: Context,
    { all = false }: { readonly all?: boolean } = {},
  ): Promise<readonly Task[]> {
    return this.#manager.records
      .list(all ? undefined : requireNamespace(ctx))
      .filter((record) => record.phase !== "creating")
      .map((record) => this.#task(record));
  }

  async delete(ctx: Context, id: string): Promise<ProcessExit> {
    const record = this.#record(ctx, id);
    let exit: ProcessExit | undefined;
    let problem: unknown;
    try {
      exit = await deleteInShim(ctx, record, (lost) => this.#manager.cleanUp(lost));
    } catch (error) {
      // The shim has never had it, or an earlier daemon deleted it: what is left here goes all the
      // same.
      if (!isNotFound(error)) throw wrap("failed to delete task", error);
      problem = error;
    }
    this.#manager.failpoints.hit("task.deleted");
    if (!record.cleanup) await this.#shutDown(ctx, record);
    await this.#mounts?.deactivate(ctx, id);
    if (exit) return exit;
    throw wrap("failed to delete task", problem);
  }

  /** What a runtime says of itself: `containerd.types.RuntimeInfo` for a `RuntimeRequest`. */
  async pluginInfo(ctx: Context, options: Any): Promise<Any> {
    return (await this.#info(ctx, runtimeRequestOf(options))).any;
  }

  async #info(ctx: Context, { runtimePath, options }: RuntimeRequest): Promise<RuntimeInfo> {
    const command = await this.#manager.findCommand(runtimePath);
    return runtimeInfoOf(await command.info(ctx, options), command.path);
  }

  async #features(ctx: Context, request: RuntimeRequest): Promise<Any | undefined> {
    try {
      return (await this.#info(ctx, request)).features;
    } catch (error) {
      throw wrap("failed to validate OCI runtime features: runtime info", error);
    }
  }

  async #undoMounts(ctx: Context, id: string, { isOwn }: TaskRootfs): Promise<void> {
    if (!isOwn) return;
    const own = ctx.detached({ timeoutMs: this.#manager.options.timeouts.cleanup });
    await this.#mounts?.deactivate(own, id);
  }

  #task(record: ShimRecord, pid?: number): ShimTask {
    const { failpoints } = this.#manager;
    return new ShimTask(record, (lost) => this.#manager.cleanUp(lost), { failpoints, pid });
  }

  /** The record stays when the shim does not end: a retry finds it. */
  async #shutDown(ctx: Context, record: ShimRecord): Promise<void> {
    record.phase = "ending";
    try {
      await record.link.shutdown(ctx.withTimeout(this.#manager.options.timeouts.shutdown));
    } catch (error) {
      record.phase = "live";
      throw wrap("failed to delete task: failed to invoke shutdown", error);
    }
    this.#manager.failpoints.hit("task.shut-down");
    await this.#manager.forget(record);
  }

  #record(ctx: Context, id: string): ShimRecord {
    const record = this.#manager.records.get(requireNamespace(ctx), id);
    if (!record || record.phase === "creating") throw notFound(`task ${id}`);
    return record;
  }

  async #startShim(ctx: Context, bundle: Bundle, request: StartRequest): Promise<ShimRecord> {
    try {
      return await this.#manager.start(ctx, bundle, request);
    } catch (error) {
      throw wrap("failed to start shim", error);
    }
  }

  async #createInShim(
    ctx: Context,
    record: ShimRecord,
    request: ShimCreateRequest,
  ): Promise<number> {
    const create = (): Promise<number> =>
      record.link.call(ctx, (tasks) => tasks.create(ctx, record.id, request));
    try {
      return await create();
    } catch (error) {
      if (!hasCode(error, "not-implemented") || !record.link.downgrade()) throw error;
      ctx.logger.warn("failed to call task.Create, downgrading client API version to try again", {
        id: record.id,
        error,
      });
      return create();
    }
  }

  /**
   * Ends the shim of a task that could not be created. It may have come to be all the same, when
   * the caller left in the middle; hence the delete, by force where the shim does not answer.
   *
   * The daemon's own supervisor answers when the creation is over, however long that takes. False
   * when this daemon stops first: the next one finds the bundle, with all that stands on it.
   */
  async #endFailed(ctx: Context, record: ShimRecord): Promise<boolean> {
    const { lifetime, timeouts } = this.#manager.options;
    const isOurs = record.link instanceof SupervisorLink;
    const own = isOurs
      ? lifetime.withNamespace(ctx.namespace).withLogger(ctx.logger)
      : ctx.detached({ timeoutMs: timeouts.cleanup });
    const process = { id: record.id, execId: "" };
    let isClean = record.link.rollsBack;
    try {
      // By a successor too, which undoes what was begun.
      await record.link
        .ask(own, (tasks) => tasks.delete(own, process))
        .catch((error: unknown) => {
          if (!isNotFound(error)) throw error;
        });
      await record.link.shutdown(own);
    } catch (error) {
      own.logger.warn("failed to clean up shim", { id: record.id, error });
      if (isOurs && own.signal.aborted) return false;
      isClean = false;
    }
    if (!isClean) {
      const late = ctx.detached({ timeoutMs: timeouts.cleanup });
      await record.command.delete(late, record.bundle).catch((error: unknown) => {
        late.logger.error("failed to clean up shim", { id: record.id, error });
      });
    }
    await this.#manager.forget(record);
    return true;
  }

  async #removeBundle(ctx: Context, bundle: Bundle): Promise<void> {
    try {
      await deleteBundle(bundle, this.#manager.options.unmount);
    } catch (error) {
      ctx.logger.error("failed to delete bundle", { id: bundle.id, error });
    }
  }
}

function hasValue(options: Any | undefined): options is Any {
  return options !== undefined && options.value.length > 0;
}
