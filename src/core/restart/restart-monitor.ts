import { setTimeout as sleep } from "node:timers/promises";
import type { Container, ContainerStore } from "#core/containers/containers.ts";
import type { NamespaceStore } from "#core/namespaces/namespaces.ts";
import {
  type ProcessState,
  sandboxRef,
  type Task,
  type TaskIo,
  type TaskRuntime,
} from "#core/runtime/runtime.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import { isNotFound, messageOf, notFound, wrap } from "#pkg/errors.ts";
import { taskIo } from "./log-io.ts";
import {
  isExplicitlyStopped,
  nextCount,
  parseRestartPolicy,
  restartLabels,
  wantsRestart,
} from "./policy.ts";

export interface RestartMonitorOptions {
  readonly namespaces: Pick<NamespaceStore, "list">;
  readonly containers: Pick<ContainerStore, "get" | "list" | "update">;
  readonly snapshotters: ReadonlyMap<string, Pick<Snapshotter, "mounts">>;
  readonly runtime: Pick<TaskRuntime, "get" | "create" | "delete">;
  /** From the end of one look at the containers to the next. */
  readonly intervalMs: number;
}

const SIGKILL = 9;
const stateTimeoutMs = 2_000;
// A container that does not die, or a runtime that hangs, is given up until the next look.
const changeTimeoutMs = 60_000;
const changesMax = 16;
// Who has created a task is about to start it; a client that died in between never will.
const createdGraceMs = 10_000;
/** Of CRI's containers, which the kubelet starts again: the pod's labels are theirs too. */
const kindOfCri = "io.cri-containerd.kind";
const watched = [`labels."${restartLabels.status}"`];

/**
 * Brings containers that ask for it by label to the state they ask for, in every namespace, once
 * each interval: starts those that should run and do not, as far as their policy goes, and stops
 * those that should not.
 *
 * Whoever may write a container's labels decides. The labels of an image are no concern of the
 * daemon's: it is the client that makes a container's labels of them, and must leave out those
 * below `containerd.io/`, since a log URI may name a program to run.
 *
 * A container that takes long holds up no other. Disposing ends the work; containers stay as they
 * are.
 */
export class RestartMonitor implements AsyncDisposable {
  readonly #ctx: Context;
  readonly #options: RestartMonitorOptions;
  readonly #stopping = new AbortController();
  /** What is being done, by namespace and id: no container is changed twice at a time. */
  readonly #busy = new Map<string, Promise<void>>();
  /** Tasks that were not started yet when last looked at, and since when. */
  readonly #created = new Map<string, { readonly pid: number; readonly sinceMs: number }>();
  #free = changesMax;
  readonly #queue: (() => void)[] = [];
  #loop: Promise<void> = Promise.resolve();

  constructor(ctx: Context, options: RestartMonitorOptions) {
    this.#ctx = ctx.withSignal(this.#stopping.signal);
    this.#options = options;
  }

  /** Begins to look at containers, now and then each interval. */
  start(): void {
    this.#loop = this.#run();
  }

  /**
   * Forgets that containers of policy `always` were stopped on purpose: a daemon that starts, starts
   * them.
   */
  async reset(): Promise<void> {
    await this.#each(async (ctx, container) => {
      if (!isExplicitlyStopped(container.labels)) return;
      if (parseRestartPolicy(container.labels[restartLabels.policy] ?? "").name !== "always") {
        return;
      }
      await this.#setLabel(ctx, container, restartLabels.explicitlyStopped, "false");
    });
  }

  /** Looks at every container once; what has to be done is begun, and `idle` waits for it. */
  async scan(): Promise<void> {
    const seen = new Set<string>();
    await this.#each((ctx, container) => {
      seen.add(keyOf(ctx, container));
      this.#consider(ctx, container);
    });
    for (const key of this.#created.keys()) if (!seen.has(key)) this.#created.delete(key);
  }

  async idle(): Promise<void> {
    while (this.#busy.size > 0) await Promise.all(this.#busy.values());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    await this.idle();
  }

  async #run(): Promise<void> {
    const { signal, logger } = this.#ctx;
    await this.reset();
    while (!signal.aborted) {
      await this.scan();
      try {
        await sleep(this.#options.intervalMs, undefined, { signal });
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    }
    logger.debug("restart monitor has ended");
  }

  /** Upstream replaces these at once, and so takes them from under clients that begin to run them. */
  #isBeingStarted(ctx: Context, container: Container, state: ProcessState | undefined): boolean {
    const key = keyOf(ctx, container);
    if (state?.status !== "created") {
      this.#created.delete(key);
      return false;
    }
    const { pid } = state;
    const seen = this.#created.get(key);
    const nowMs = performance.now();
    if (seen?.pid !== pid) this.#created.set(key, { pid, sinceMs: nowMs });
    return seen?.pid !== pid || nowMs - seen.sinceMs < createdGraceMs;
  }

  /** One that fails is logged, and does not keep the others from their turn. */
  async #each(look: (ctx: Context, container: Container) => Promise<void> | void): Promise<void> {
    const { namespaces, containers } = this.#options;
    const { logger } = this.#ctx;
    const names = await this.#attempt("failed to list namespaces", () =>
      namespaces.list(this.#ctx),
    );
    for (const { name: namespace } of names ?? []) {
      const ctx = this.#ctx.withNamespace(namespace).withLogger(logger.with({ namespace }));
      const found = await this.#attempt("failed to list containers", () =>
        containers.list(ctx, watched),
      );
      for (const container of found ?? []) {
        if (kindOfCri in container.labels) continue;
        await this.#attempt(`restart monitor: container ${container.id}`, async () =>
          look(ctx, container),
        );
      }
    }
  }

  async #attempt<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!this.#ctx.signal.aborted) this.#ctx.logger.error(what, { error });
      return undefined;
    }
  }

  #consider(ctx: Context, container: Container): void {
    const key = keyOf(ctx, container);
    if (this.#busy.has(key)) return;
    const work = this.#attempt(`restart monitor: container ${key}`, async () => {
      await this.#acquire();
      try {
        const bounded = ctx.withTimeout(changeTimeoutMs);
        // It may have waited for long: what counts is what is on record now.
        const current = await ifFound(this.#options.containers.get(bounded, container.id));
        if (current) await this.#reconcile(bounded, current);
      } finally {
        this.#release();
      }
    }).then(() => {
      this.#busy.delete(key);
    });
    this.#busy.set(key, work);
  }

  async #acquire(): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#queue.push(resolve);
    await promise;
  }

  #release(): void {
    const next = this.#queue.shift();
    if (next) next();
    else this.#free += 1;
  }

  async #reconcile(ctx: Context, container: Container): Promise<void> {
    ctx.throwIfEnded();
    const wanted = container.labels[restartLabels.status];
    const task = await ifFound(this.#options.runtime.get(ctx, container.id));
    // A shim that does not answer says nothing of its task: it is asked again, and nothing is killed.
    const state = task && (await ifFound(task.state(ctx.withTimeout(stateTimeoutMs), "")));
    if (wanted === "stopped") {
      if (task && state && state.status !== "stopped") await this.#stop(ctx, task);
      return;
    }
    if (wanted !== "running" || !needsStart(state)) return;
    if (this.#isBeingStarted(ctx, container, state)) return;
    if (wantsRestart(container.labels, state?.exitStatus ?? 0)) {
      await this.#start(ctx, container, task);
    }
  }

  async #start(ctx: Context, container: Container, left: Task | undefined): Promise<void> {
    const io = taskIo(container);
    const { labels } = container;
    if ((labels[restartLabels.logPath] ?? "") !== "") {
      const hint = `use "${restartLabels.logUri}" instead`;
      ctx.logger.warn(`label "${restartLabels.logPath}" is no longer supported, ${hint}`);
    }
    // Counted before it is tried: what fails to start is not tried for ever.
    await this.#setLabel(ctx, container, restartLabels.count, String(nextCount(labels)));
    if (left) await this.#stop(ctx, left);
    const task = await this.#create(ctx, container, io);
    await task.start(ctx, "");
    ctx.logger.info("restarted container", { id: container.id });
  }

  async #create(ctx: Context, container: Container, io: TaskIo): Promise<Task> {
    const { id, snapshotter, snapshotKey } = container;
    const snapshots = this.#options.snapshotters.get(snapshotter);
    if (snapshotKey !== "" && !snapshots) throw notFound(`snapshotter ${snapshotter}`);
    const rootfs = snapshotKey === "" ? [] : ((await snapshots?.mounts(ctx, snapshotKey)) ?? []);
    return this.#options.runtime.create(ctx, id, {
      spec: container.spec,
      rootfs,
      io,
      runtime: container.runtime.name,
      runtimeOptions: container.runtime.options,
      taskOptions: undefined,
      sandbox: sandboxRef(container.sandbox),
    });
  }

  /** Kills every process of the task and deletes it. */
  async #stop(ctx: Context, task: Task): Promise<void> {
    const { runtime } = this.#options;
    const ended = task.wait(ctx, "");
    ended.catch(() => {}); // -- awaited below, unless killing fails first
    try {
      await task.kill(ctx, { execId: "", signal: SIGKILL, all: true }).catch((error: unknown) => {
        // It has ended by itself a moment ago, and can be deleted as soon as that is told.
        if (!isNotFound(error)) throw error;
      });
      await ended;
    } catch (error) {
      // One that can be deleted had ended.
      try {
        await runtime.delete(ctx, task.id);
      } catch (deletion) {
        if (isNotFound(deletion)) return;
        throw wrap(`kill task (${messageOf(deletion)})`, error);
      }
      return;
    }
    await runtime.delete(ctx, task.id);
  }

  /** Touches nothing else: the owner may be changing the container meanwhile. */
  async #setLabel(ctx: Context, container: Container, key: string, value: string): Promise<void> {
    const labels = { ...container.labels, [key]: value };
    await this.#options.containers.update(ctx, { ...container, labels }, [`labels.${key}`]);
  }
}

function keyOf(ctx: Context, container: Container): string {
  return `${ctx.namespace}/${container.id}`;
}

/** A paused one is left to who has paused it. */
function needsStart(state: ProcessState | undefined): boolean {
  return state === undefined || state.status === "stopped" || state.status === "created";
}

async function ifFound<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
