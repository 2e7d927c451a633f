import { setTimeout as delay } from "node:timers/promises";
import type { BootstrapResult } from "#core/runtime/bootstrap.ts";
import type { HeldProcess } from "#core/runtime/descriptor-keeper.ts";
import { type Keeper, KeptDescriptors } from "#core/runtime/kept-descriptors.ts";
import {
  defaultRestartBackOff,
  RestartBackOff,
  type RestartBackOffOptions,
} from "#core/runtime/restart-back-off.ts";
import type { ShimDialer, ShimTransport } from "#core/runtime/shim-connection.ts";
import type { ShimLink } from "#core/runtime/shim-link.ts";
import type { SupervisorGroup } from "#core/runtime/supervisor-group.ts";
import { TaskProxy } from "#core/runtime/task-proxy.ts";
import type { Context } from "#pkg/context.ts";
import { hasCode, unavailable } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";

export interface SupervisorEvents {
  /** A successor serves: what it did not take over is lost. */
  onReplaced(): void;
  /** Dead, and no successor could be started: its tasks are to be cleaned up. */
  onGivenUp(error: unknown): void;
  /**
   * Nobody uses it: it may be forgotten. One that is not gone has tasks of which this daemon knows
   * nothing, and the next daemon is to find it.
   */
  onEnded(how: { readonly isGone: boolean }): void;
}

export interface SupervisorOptions {
  /** The daemon's lifetime: a client that leaves does not stop a start that others wait for. */
  readonly lifetime: Context;
  /**
   * Starts the process, or finds the one that serves the group already. It inherits what was kept
   * of the one before.
   */
  readonly launch: (ctx: Context, kept: readonly HeldProcess[]) => Promise<BootstrapResult>;
  readonly dial: ShimDialer;
  /** Undefined for a supervisor that hands nothing over. */
  readonly keep: (ctx: Context, bootstrap: BootstrapResult) => Promise<Keeper | undefined>;
  /**
   * How long it stays without users: starting a process takes longer than all the rest of a task's
   * creation.
   */
  readonly lingerMs: number;
  readonly backOff?: RestartBackOffOptions;
  /** One that ends still delivers the events it has, for at most 5 s. */
  readonly endTimeoutMs?: number;
  readonly events: SupervisorEvents;
}

interface Serving {
  readonly bootstrap: BootstrapResult;
  readonly transport: ShimTransport;
  readonly tasks: TaskProxy;
}

type State =
  | { readonly kind: "down" }
  /** It has died a moment ago, and is started again when `over` resolves. */
  | { readonly kind: "pausing"; readonly over: Promise<void> }
  | { readonly kind: "starting"; readonly serving: Promise<Serving> }
  | { readonly kind: "up"; readonly serving: Serving }
  | { readonly kind: "ending"; readonly over: Promise<void> }
  | { readonly kind: "closed" };

const launchTimeoutMs = 30_000;
const keepTimeoutMs = 10_000;
const keepDelaysMs = [0, 200, 1_000] as const;
const defaultEndTimeoutMs = 6_000;
/** Of a question that may be what kills it. */
const askAttemptsMax = 5;
/** From then on each pause is an error in the log, no longer a warning. */
const startsInARowMax = 4;

/**
 * One group's supervisor as the daemon sees it: started when first used, ended a while after its
 * last user, replaced when it dies while it has users, however often that is (see
 * `RestartBackOff`).
 */
export class Supervisor {
  readonly group: SupervisorGroup;
  readonly #options: SupervisorOptions;
  readonly #users = new Set<string>();
  #state: State = { kind: "down" };
  #linger: NodeJS.Timeout | undefined;
  readonly #backOff: RestartBackOff;
  readonly #closing = new AbortController();
  readonly #kept = new KeptDescriptors();
  #keeping: Promise<void> = Promise.resolve();

  constructor(group: SupervisorGroup, options: SupervisorOptions) {
    this.group = group;
    this.#options = options;
    this.#backOff = new RestartBackOff(options.backOff);
  }

  get users(): ReadonlySet<string> {
    return this.#users;
  }

  /** Keeps the supervisor for one bundle until `release`. */
  join(id: string): void {
    clearTimeout(this.#linger);
    this.#users.add(id);
  }

  /** The serving process, started where there is none. */
  async serving(ctx: Context): Promise<Serving> {
    for (;;) {
      const state = this.#state;
      switch (state.kind) {
        case "up":
          if (state.serving.transport.isOpen) return state.serving;
          // Its loss is about to be noticed; let that happen first.
          await settledOrAborted(state.serving.transport.closed, ctx);
          break;
        case "starting":
          return settledOrAborted(state.serving, ctx);
        case "ending":
        case "pausing":
          await settledOrAborted(state.over, ctx);
          break;
        case "down":
          return settledOrAborted(
            this.#start((lifetime) => this.#launch(lifetime)),
            ctx,
          );
        case "closed":
          ctx.throwIfEnded();
          throw unavailable(`supervisor of ${this.group.namespace}: the daemon is stopping`);
      }
    }
  }

  /**
   * After a restart of the daemon: goes on with the one that serves there, else starts a successor.
   * Where that fails it is tried again as after a death, as long as there are users.
   */
  async resume(ctx: Context, bootstrap: BootstrapResult): Promise<void> {
    if (this.#state.kind !== "down") {
      await this.serving(ctx);
      return;
    }
    const start = this.#start(async (lifetime) => {
      try {
        return await this.#connect(lifetime, bootstrap);
      } catch (error) {
        if (!hasCode(error, "unavailable")) throw error;
        lifetime.logger.info("supervisor is gone, starting another", { error });
        return this.#launch(lifetime);
      }
    });
    start.catch(() => {
      if (this.#state.kind === "down" && this.#users.size > 0) void this.#replace();
    });
    await settledOrAborted(start, ctx);
  }

  /**
   * Gives one user up; after the last the process is told to end when the time has passed. Twice is
   * once.
   */
  release(id: string): void {
    if (this.#users.delete(id) && this.#users.size === 0) this.#onUnused();
  }

  /** Leaves the process to its users, and ends it where it has none. Idempotent. */
  async close(): Promise<void> {
    clearTimeout(this.#linger);
    this.#closing.abort();
    if (this.#state.kind === "up" && this.#users.size === 0) {
      await this.#endUnused(this.#state);
    }
    const state = this.#state;
    if (state.kind === "ending") await state.over;
    this.#state = { kind: "closed" };
    if (state.kind === "up") await state.serving.transport.close();
    if (state.kind === "starting") {
      // A failure is for its callers to report.
      const serving = await state.serving.catch(() => undefined);
      await serving?.transport.close();
    }
    await this.#keeping;
    this.#kept[Symbol.dispose]();
  }

  async #shutDown(ctx: Context, up: State & { kind: "up" }): Promise<void> {
    const { transport, tasks } = up.serving;
    const told = tasks.shutdown(ctx, this.group.id).catch((error: unknown) => {
      // Its end may overtake the answer.
      if (transport.isOpen) throw error;
    });
    const over = told.then(
      () => this.#end(transport),
      () => {
        if (this.#state.kind === "ending") this.#state = up;
      },
    );
    this.#state = { kind: "ending", over };
    await told;
  }

  async #launch(lifetime: Context): Promise<BootstrapResult> {
    // What the last one sent is read first: it may have died in the turn in which it was complete,
    // and what the one before it had is stale by then.
    await settledOrAborted(this.#keeping, lifetime);
    return this.#options.launch(lifetime, this.#kept.processes());
  }

  /**
   * Takes duplicates of what the process has. Those of the one before stay until it has sent
   * everything: it may die earlier. They do not stay longer, even where nothing comes instead: they
   * would hide from clients that the process has closed its own.
   */
  async #keep(serving: Serving): Promise<void> {
    const { lifetime } = this.#options;
    for (const delayMs of keepDelaysMs) {
      if (delayMs > 0) await closedWithin(serving.transport, lifetime, delayMs);
      if (!serving.transport.isOpen || lifetime.signal.aborted) return;
      try {
        if (await this.#tryKeep(serving)) return;
        break;
      } catch (error) {
        if (!serving.transport.isOpen || lifetime.signal.aborted) return;
        lifetime.logger.warn("descriptors of a supervisor are not kept", { ...this.group, error });
      }
    }
    // The failure may be the first sign of its end.
    await closedWithin(serving.transport, lifetime, keepDelaysMs[1]);
    if (serving.transport.isOpen) this.#kept[Symbol.dispose]();
  }

  /** False when it hands nothing over, or has no use. */
  async #tryKeep(serving: Serving): Promise<boolean> {
    const { lifetime, keep } = this.#options;
    const bounded = lifetime.withTimeout(keepTimeoutMs);
    using undo = new DisposableStack();
    const keeper = await keep(bounded, serving.bootstrap);
    if (!keeper) return false;
    undo.use(keeper);
    const isComplete = await settledOrAborted(keeper.complete, bounded);
    if (!isComplete) {
      // The one connection's end may be noticed before the other's.
      await closedWithin(serving.transport, lifetime, keepDelaysMs[1]);
      if (serving.transport.isOpen) {
        throw unavailable("the hand-over ended before it was complete");
      }
    }
    if (this.#state.kind !== "up" && this.#users.size === 0) return false;
    undo.move();
    if (isComplete) this.#kept.replaceBy(keeper);
    else this.#kept.add(keeper);
    return true;
  }

  #onEnded({ isGone = true }: { readonly isGone?: boolean } = {}): void {
    this.#kept[Symbol.dispose]();
    this.#options.events.onEnded({ isGone });
  }

  #start(find: (lifetime: Context) => Promise<BootstrapResult | Serving>): Promise<Serving> {
    const bounded = this.#options.lifetime.withTimeout(launchTimeoutMs);
    const serving = (async (): Promise<Serving> => {
      const found = await find(bounded);
      return "transport" in found ? found : this.#connect(bounded, found);
    })();
    const starting: State = { kind: "starting", serving };
    this.#state = starting;
    serving.then(
      (up) => {
        if (this.#state === starting) this.#onUp(up);
      },
      () => {
        if (this.#state !== starting) return;
        this.#state = { kind: "down" };
        if (this.#users.size === 0) this.#onEnded();
      },
    );
    return serving;
  }

  #onUp(serving: Serving): void {
    const up: State = { kind: "up", serving };
    this.#state = up;
    this.#backOff.serves(performance.now());
    void serving.transport.closed.then(() => this.#onClosed(serving));
    this.#keeping = this.#keep(serving);
    // Whoever asked for it has gone meanwhile.
    if (this.#users.size === 0) this.#onUnused();
  }

  #onUnused(): void {
    if (this.#state.kind === "pausing") this.#state = { kind: "down" };
    if (this.#state.kind === "down") this.#onEnded();
    if (this.#state.kind !== "up") return;
    clearTimeout(this.#linger);
    this.#linger = setTimeout(() => {
      if (this.#state.kind !== "up" || this.#users.size > 0) return;
      void this.#endUnused(this.#state);
    }, this.#options.lingerMs).unref();
  }

  async #endUnused(up: State & { kind: "up" }): Promise<void> {
    const bounded = this.#withEndTimeout();
    try {
      await this.#shutDown(bounded, up);
    } catch (error) {
      bounded.logger.warn("cannot end unused supervisor", { ...this.group, error });
    }
  }

  async #connect(ctx: Context, bootstrap: BootstrapResult): Promise<Serving> {
    const transport = await this.#options.dial(ctx, bootstrap);
    return { bootstrap, transport, tasks: new TaskProxy(transport, bootstrap.version) };
  }

  async #end(transport: ShimTransport): Promise<void> {
    const bounded = this.#withEndTimeout();
    let isGone = true;
    try {
      await settledOrAborted(transport.closed, bounded);
    } catch {
      // -- it has tasks that this daemon does not know: it stays, and the next start finds it again
      isGone = false;
      await transport.close();
    }
    if (this.#state.kind !== "ending") return;
    this.#state = { kind: "down" };
    if (this.#users.size === 0) this.#onEnded({ isGone });
  }

  #withEndTimeout(): Context {
    const { lifetime, endTimeoutMs = defaultEndTimeoutMs } = this.#options;
    return lifetime.detached({ timeoutMs: endTimeoutMs });
  }

  #onClosed(serving: Serving): void {
    if (this.#state.kind !== "up" || this.#state.serving !== serving) return;
    this.#state = { kind: "down" };
    if (this.#users.size === 0) this.#onEnded();
    else void this.#replace();
  }

  /** Until one serves, nobody needs it any more, or there is no hope left. */
  async #replace(): Promise<void> {
    const lifetime = this.#options.lifetime.withSignal(this.#closing.signal);
    const { events } = this.#options;
    let problem: unknown;
    for (;;) {
      const delayMs = this.#backOff.nextDelayMs(performance.now());
      if (delayMs === undefined) break;
      await this.#pause(lifetime, delayMs);
      // Whoever was the last has gone meanwhile, and with it what this was for.
      if (lifetime.signal.aborted || this.#users.size === 0) return;
      try {
        await this.serving(lifetime);
        events.onReplaced();
        return;
      } catch (error) {
        if (lifetime.signal.aborted) return;
        problem = error;
        lifetime.logger.warn("cannot replace supervisor", { ...this.group, error });
      }
    }
    this.#kept[Symbol.dispose]();
    events.onGivenUp(problem);
  }

  /** Whoever calls waits as well: a client that asks on and on must not start it each time. */
  async #pause(lifetime: Context, delayMs: number): Promise<void> {
    const { startsInARow } = this.#backOff;
    const fields = { ...this.group, startsInARow, delayMs };
    const words = "supervisor does not serve, starting another";
    if (startsInARow > startsInARowMax) lifetime.logger.error(words, fields);
    else lifetime.logger.warn(words, fields);
    const over = delay(delayMs, undefined, { signal: lifetime.signal }).catch(() => {}); // -- it ends
    const pausing: State = { kind: "pausing", over };
    if (this.#state.kind === "down") this.#state = pausing;
    await over;
    if (this.#state === pausing) this.#state = { kind: "down" };
  }
}

/** Resolves when the connection has closed, or the time has passed. */
async function closedWithin(transport: ShimTransport, ctx: Context, ms: number): Promise<void> {
  try {
    await settledOrAborted(transport.closed, ctx.withTimeout(ms));
  } catch {
    // -- the time has passed, or the daemon stops
  }
}

/** One bundle's share of a supervisor. */
export class SupervisorLink implements ShimLink {
  readonly bootstrap: BootstrapResult;
  /** As runc's shim upstream, it knows tasks alone. */
  readonly services = undefined;
  readonly rollsBack = true;
  readonly #supervisor: Supervisor;
  readonly #id: string;

  constructor(supervisor: Supervisor, id: string, bootstrap: BootstrapResult) {
    this.#supervisor = supervisor;
    this.#id = id;
    this.bootstrap = bootstrap;
  }

  async call<T>(ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T> {
    const { tasks, transport } = await this.#supervisor.serving(ctx);
    try {
      return await made(tasks);
    } catch (error) {
      // `unavailable` over a connection that stands: it was about to end and has done nothing.
      if (!hasCode(error, "unavailable") || !transport.isOpen) throw error;
    }
    await settledOrAborted(transport.closed, ctx.withTimeout(defaultEndTimeoutMs));
    return made((await this.#supervisor.serving(ctx)).tasks);
  }

  async ask<T>(ctx: Context, made: (tasks: TaskProxy) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const { tasks, transport } = await this.#supervisor.serving(ctx);
      const sinceMs = performance.now();
      try {
        return await made(tasks);
      } catch (error) {
        if (transport.isOpen) throw error;
        // A question that has waited for long is not what it died of: a wait may last for months.
        if (performance.now() - sinceMs >= defaultRestartBackOff.steadyMs) attempt = 0;
        if (attempt === askAttemptsMax) throw error;
      }
    }
  }

  get isLost(): boolean {
    return false;
  }

  downgrade(): boolean {
    return false;
  }

  async shutdown(): Promise<void> {
    this.#supervisor.release(this.#id);
  }

  async close(): Promise<void> {
    this.#supervisor.release(this.#id);
  }
}
