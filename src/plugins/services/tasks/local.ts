import type { Container, ContainerStore } from "#core/containers/containers.ts";
import type { Mount } from "#core/mount/mount.ts";
import {
  type ProcessExit,
  type ProcessState,
  sandboxRef,
  type Task,
  type TaskIo,
  type TaskRuntime,
} from "#core/runtime/runtime.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, hasCode, isNotFound, messageOf, notImplemented } from "#pkg/errors.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { nowNanos, type UnixNanos } from "#pkg/time.ts";

export interface NewTask {
  readonly rootfs: readonly Mount[];
  readonly io: TaskIo;
  readonly options: Any | undefined;
  /** Instead of the container's runtime; empty for that one. */
  readonly runtimePath: string;
  /** Where the tasks of the container's sandbox are served; see `SandboxRef`. */
  readonly taskApi?: { readonly address: string; readonly version: number };
}

export interface TaskMetric {
  readonly id: string;
  readonly timestamp: UnixNanos;
  readonly data: Any;
}

/** For io.containerd.timeout.task.state, how long one shim's answer about a task may take. */
export const defaultStateTimeoutMs = 2_000;

/** Tasks of containers on record. Clients match the words of the errors: they are upstream's. */
export class LocalTasks {
  readonly #containers: Pick<ContainerStore, "get">;
  readonly #runtime: TaskRuntime;
  readonly #stateTimeoutMs: number;

  constructor(options: {
    readonly containers: Pick<ContainerStore, "get">;
    readonly runtime: TaskRuntime;
    readonly stateTimeoutMs?: number;
  }) {
    this.#containers = options.containers;
    this.#runtime = options.runtime;
    this.#stateTimeoutMs = options.stateTimeoutMs ?? defaultStateTimeoutMs;
  }

  async create(ctx: Context, id: string, request: NewTask): Promise<number> {
    const container = await this.#containers.get(ctx, id);
    const task = await this.#runtime.create(ctx, id, {
      spec: container.spec,
      rootfs: request.rootfs,
      io: request.io,
      runtime: request.runtimePath === "" ? container.runtime.name : request.runtimePath,
      runtimeOptions: container.runtime.options,
      taskOptions: request.options,
      sandbox: sandboxRef(container.sandbox, request.taskApi),
    });
    try {
      return await task.pid(ctx);
    } catch (error) {
      throw new CodedError("unknown", `failed to get task pid: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  async delete(ctx: Context, id: string): Promise<ProcessExit> {
    await this.task(ctx, id);
    return this.#runtime.delete(ctx, id);
  }

  /** The task of a container on record: a task without one is out of every client's reach. */
  async task(ctx: Context, id: string): Promise<Task> {
    const container: Container = await this.#containers.get(ctx, id);
    try {
      return await this.#runtime.get(ctx, container.id);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      throw new CodedError("not-found", `task ${container.id} not found`, { cause: error });
    }
  }

  async state(ctx: Context, id: string, execId: string): Promise<ProcessState> {
    return stateOf(this.#bounded(ctx), await this.task(ctx, id), execId);
  }

  /**
   * Tasks whose shims answer; the others are left out, and logged where that is no race with a
   * deletion.
   */
  async list(ctx: Context): Promise<readonly ProcessState[]> {
    const tasks = await this.#runtime.list(ctx);
    const states = await Promise.all(
      tasks.map(async (task) => {
        try {
          return await stateOf(this.#bounded(ctx), task, "");
        } catch (error) {
          ctx.throwIfEnded();
          if (!isNotFound(error)) {
            ctx.logger.error("converting task to protobuf", { id: task.id, error });
          }
          return undefined;
        }
      }),
    );
    return states.filter((state) => state !== undefined);
  }

  #bounded(ctx: Context): Context {
    return ctx.withTimeout(this.#stateTimeoutMs);
  }

  /** Of the tasks that match one of the filters over `id` and `namespace`. */
  async metrics(ctx: Context, filters: readonly string[]): Promise<readonly TaskMetric[]> {
    const matches = parseFilters(filters);
    const tasks = await this.#runtime.list(ctx);
    const chosen = tasks.filter((task) =>
      matches(([name]) => {
        if (name === "id") return task.id;
        return name === "namespace" ? task.namespace : undefined;
      }),
    );
    const metrics = await Promise.all(chosen.map((task) => this.#metricOf(ctx, task)));
    return metrics.filter((metric) => metric !== undefined);
  }

  async #metricOf(ctx: Context, task: Task): Promise<TaskMetric | undefined> {
    const timestamp = nowNanos();
    try {
      return { id: task.id, timestamp, data: await task.stats(this.#bounded(ctx)) };
    } catch (error) {
      ctx.throwIfEnded();
      if (!isNotFound(error)) ctx.logger.error(`collecting metrics for ${task.id}`, { error });
      return undefined;
    }
  }
}

/** Throws `not-implemented` for what a task may be asked for and this daemon cannot do yet. */
export function assertSupported(request: { readonly checkpoint: boolean }): void {
  if (request.checkpoint) throw notImplemented("restore from a checkpoint");
}

async function stateOf(ctx: Context, task: Task, execId: string): Promise<ProcessState> {
  try {
    return await task.state(ctx, execId);
  } catch (error) {
    ctx.throwIfEnded();
    const isTold = ["not-found", "unavailable", "deadline-exceeded"] as const;
    if (isTold.some((code) => hasCode(error, code))) throw error;
    ctx.logger.error(`get state for ${task.id}`, { error });
    return {
      id: execId === "" ? task.id : execId,
      pid: 0,
      status: "unknown",
      stdin: "",
      stdout: "",
      stderr: "",
      terminal: false,
      exitStatus: 0,
      exitedAt: undefined,
    };
  }
}
