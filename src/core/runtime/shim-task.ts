import type {
  ProcessExit,
  ProcessInfo,
  ProcessState,
  Task,
  TaskIo,
} from "#core/runtime/runtime.ts";
import type { ShimRecord } from "#core/runtime/shim-record.ts";
import type { ProcessRef, TaskProxy } from "#core/runtime/task-proxy.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { Failpoints } from "#pkg/failpoint.ts";
import { isNotFound, notFound, wrap } from "#pkg/errors.ts";
import { assertIdentifier } from "#pkg/identifier.ts";

/**
 * Cleans up after a lost shim and finds out how its task ended. Concurrent calls share one run.
 */
export type CleanUp = (record: ShimRecord) => Promise<ProcessExit | undefined>;

/** A task behind the link of its shim. */
export class ShimTask implements Task {
  readonly #record: ShimRecord;
  readonly #cleanUp: CleanUp;
  readonly #failpoints: Failpoints;
  readonly #pid: number;

  /** `pid` where it is known; else the shim is asked. */
  constructor(
    record: ShimRecord,
    cleanUp: CleanUp,
    options: { readonly failpoints: Failpoints; readonly pid: number | undefined },
  ) {
    this.#record = record;
    this.#cleanUp = cleanUp;
    this.#failpoints = options.failpoints;
    this.#pid = options.pid ?? 0;
  }

  get id(): string {
    return this.#record.id;
  }

  get namespace(): string {
    return this.#record.namespace;
  }

  async pid(ctx: Context): Promise<number> {
    if (this.#pid !== 0) return this.#pid;
    const { taskPid } = await this.#ask(ctx, (tasks) => tasks.connect(ctx, this.id));
    return taskPid;
  }

  async state(ctx: Context, execId: string): Promise<ProcessState> {
    try {
      return await this.#ask(ctx, (tasks) => tasks.state(ctx, this.#process(execId)));
    } catch (error) {
      // Its shim is being cleaned up after: for clients there is no such task any more.
      if (this.#record.link.isLost) throw notFound(`task ${this.id}`, { cause: error });
      throw error;
    }
  }

  async start(ctx: Context, execId: string): Promise<number> {
    const pid = await this.#call(ctx, (tasks) => tasks.start(ctx, this.#process(execId)));
    this.#failpoints.hit("task.started");
    return pid;
  }

  async exec(ctx: Context, execId: string, spec: Any, io: TaskIo): Promise<void> {
    try {
      assertIdentifier(execId);
    } catch (error) {
      throw wrap(`invalid exec id ${execId}`, error);
    }
    await this.#call(ctx, (tasks) => tasks.exec(ctx, this.#process(execId), spec, io));
    this.#failpoints.hit("task.exec-added");
  }

  kill(
    ctx: Context,
    { execId, ...how }: { readonly execId: string; readonly signal: number; readonly all: boolean },
  ): Promise<void> {
    return this.#call(ctx, (tasks) => tasks.kill(ctx, this.#process(execId), how));
  }

  async wait(ctx: Context, execId: string): Promise<Omit<ProcessExit, "pid">> {
    try {
      return await this.#ask(ctx, (tasks) => tasks.wait(ctx, this.#process(execId)));
    } catch (error) {
      ctx.throwIfEnded();
      // The shim died first. What cleans up after it finds out how the container ended.
      const { link, phase } = this.#record;
      const exit = link.isLost && phase === "live" ? await this.#cleanUp(this.#record) : undefined;
      if (!exit || execId !== "") throw error;
      return exit;
    }
  }

  deleteProcess(ctx: Context, execId: string): Promise<ProcessExit> {
    return this.#call(ctx, (tasks) => tasks.delete(ctx, this.#process(execId)));
  }

  pause(ctx: Context): Promise<void> {
    return this.#call(ctx, (tasks) => tasks.pause(ctx, this.id));
  }

  resume(ctx: Context): Promise<void> {
    return this.#call(ctx, (tasks) => tasks.resume(ctx, this.id));
  }

  pids(ctx: Context): Promise<readonly ProcessInfo[]> {
    return this.#ask(ctx, (tasks) => tasks.pids(ctx, this.id));
  }

  resizePty(
    ctx: Context,
    {
      execId,
      ...size
    }: { readonly execId: string; readonly width: number; readonly height: number },
  ): Promise<void> {
    return this.#call(ctx, (tasks) => tasks.resizePty(ctx, this.#process(execId), size));
  }

  async closeStdin(ctx: Context, execId: string): Promise<void> {
    // Go's shims give no class to what they say of an exec that is none, but do when asked for it.
    if (execId !== "") await this.state(ctx, execId);
    await this.#call(ctx, (tasks) => tasks.closeStdin(ctx, this.#process(execId)));
  }

  update(
    ctx: Context,
    resources: Any | undefined,
    annotations: Readonly<Record<string, string>>,
  ): Promise<void> {
    return this.#call(ctx, (tasks) => tasks.update(ctx, this.id, resources, annotations));
  }

  stats(ctx: Context): Promise<Any> {
    return this.#ask(ctx, (tasks) => tasks.stats(ctx, this.id));
  }

  #process(execId: string): ProcessRef {
    return { id: this.id, execId };
  }

  #call<T>(ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T> {
    return this.#record.link.call(ctx, made);
  }

  #ask<T>(ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T> {
    return this.#record.link.ask(ctx, made);
  }
}

/**
 * Deletes the task in its shim. A shim that is lost is cleaned up after instead, which is as good.
 */
export async function deleteInShim(
  ctx: Context,
  record: ShimRecord,
  cleanUp: CleanUp,
): Promise<ProcessExit | undefined> {
  const process = { id: record.id, execId: "" };
  try {
    const exit = await record.link.call(ctx, (tasks) => tasks.delete(ctx, process));
    record.deleted ??= exit;
    return record.deleted;
  } catch (error) {
    if (record.link.isLost) {
      const exit = await cleanUp(record);
      if (exit) return exit;
    }
    // An earlier delete got this far and no further: its answer is the one to give.
    if (isNotFound(error) && record.deleted) return record.deleted;
    throw error;
  }
}
