import type { Context } from "#pkg/context.ts";
import { CodedError, wrap } from "#pkg/errors.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import { inOrder, requirements } from "#pkg/plugin/order.ts";
import {
  type AnyPlugin,
  type ConfigTable,
  type PluginRecord,
  SkipPlugin,
  uri,
} from "#pkg/plugin/plugin.ts";
import { LiveRecord } from "#pkg/plugin/record.ts";
import { overlay } from "#pkg/plugin/table.ts";

const defaultTimeoutMs = 1000;

export interface GraphOptions {
  readonly plugins: readonly AnyPlugin[];
  /** Uris without which the daemon does not start. */
  readonly required?: readonly string[] | undefined;
  readonly disabled?: readonly string[] | undefined;
  readonly root: string;
  readonly state: string;
  readonly grpcAddress: string;
  readonly ttrpcAddress: string;
  /** In milliseconds, by name; they win over what the plugins declare. */
  readonly timeouts?: ReadonlyMap<string, number> | undefined;
  readonly failpoints?: Failpoints | undefined;
  /** The section of the configuration under a plugin's uri. */
  section?(uri: string): ConfigTable | undefined;
}

/**
 * The plugins of a running daemon.
 *
 * `start` initialises them in the order of their requirements. A plugin that throws `SkipPlugin` is
 * skipped, one that throws anything else has failed; both stay visible in `records` and the daemon
 * goes on without them, unless the plugin is required, had asked for readiness, or its
 * configuration did not parse: then what had started is stopped again and `start` rejects. `stop`
 * aborts the lifetime's signal, so that loops end while the stores are still open, then disposes in
 * the exact reverse of the start; a second call does nothing.
 */
export class Graph implements AsyncDisposable {
  /** Every plugin whose turn has been, in order. Disabled ones are not among them. */
  readonly records: readonly PluginRecord[];
  /** Lives as long as the graph runs; children of it end when `stop` begins. */
  readonly ctx: Context;
  readonly #lifetime: AbortController;
  readonly #stack: AsyncDisposableStack;
  readonly #readiness: Readiness;

  private constructor(run: Run, stack: AsyncDisposableStack) {
    this.records = run.records;
    this.ctx = run.ctx;
    this.#lifetime = run.lifetime;
    this.#readiness = run.readiness;
    this.#stack = stack;
  }

  static async start(ctx: Context, options: GraphOptions): Promise<Graph> {
    const run = new Run(ctx, options);
    await using stack = new AsyncDisposableStack();
    try {
      await run.initialiseAll(stack);
    } catch (error) {
      run.lifetime.abort();
      throw error;
    }
    return new Graph(run, stack.move());
  }

  /** Resolves when everything that registered readiness is ready. */
  async ready(): Promise<void> {
    await this.#readiness.wait(this.ctx.signal);
  }

  async stop(): Promise<void> {
    this.#lifetime.abort();
    await this.#stack.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** The state of one `Graph.start`. */
class Run {
  readonly ctx: Context;
  readonly lifetime: AbortController = new AbortController();
  readonly readiness: Readiness = new Readiness();
  readonly records: LiveRecord[] = [];
  readonly #options: GraphOptions;

  constructor(ctx: Context, options: GraphOptions) {
    this.ctx = ctx.withSignal(this.lifetime.signal);
    this.#options = options;
  }

  async initialiseAll(daemon: AsyncDisposableStack): Promise<void> {
    const required = new Set(this.#options.required);
    const ordered = inOrder(this.#options.plugins, new Set(this.#options.disabled));
    assertIncluded(required, ordered);
    // All of them first: a mistake in the last section must not be found with half of the daemon at
    // work.
    const configs = ordered.map((plugin) => this.#decode(plugin));
    for (const [i, plugin] of ordered.entries()) {
      this.ctx.throwIfEnded();
      const record = await this.#initialise(plugin, configs[i], daemon);
      if (record.state !== "started" && required.has(record.uri)) {
        throw wrap(`load required plugin ${record.uri}`, record.error);
      }
    }
  }

  async #initialise(
    plugin: AnyPlugin,
    config: unknown,
    daemon: AsyncDisposableStack,
  ): Promise<LiveRecord> {
    const record = new LiveRecord(plugin);
    const fields = { id: record.uri, type: record.type };
    this.ctx.logger.info("loading plugin", fields);
    record.to("initialising");
    this.records.push(record);
    let mustSucceed = false;
    const registerReadiness = (): (() => void) => {
      mustSucceed = true;
      return this.readiness.register();
    };
    try {
      await this.#init(record, config, daemon, registerReadiness);
    } catch (error) {
      if (error instanceof SkipPlugin) {
        record.ended("skipped", error);
        this.ctx.logger.info("skip loading plugin", { error, ...fields });
      } else {
        record.ended("failed", error);
        this.ctx.logger.warn("failed to load plugin", { error, ...fields });
      }
      if (mustSucceed) {
        throw wrap(`plugin failed after registering readiness ${record.uri}`, error);
      }
    }
    return record;
  }

  async #init(
    record: LiveRecord,
    config: unknown,
    daemon: AsyncDisposableStack,
    registerReadiness: () => () => void,
  ): Promise<void> {
    const { plugin } = record;
    const { root, state, grpcAddress, ttrpcAddress } = this.#options;
    const needs = this.#resolve(plugin);
    await using resources = new AsyncDisposableStack();
    const instance: unknown = await plugin.init({
      ctx: this.ctx.withLogger(this.ctx.logger.with({ plugin: record.uri })),
      needs,
      config,
      rootDir: `${root}/${record.uri}`,
      stateDir: `${state}/${record.uri}`,
      grpcAddress,
      ttrpcAddress,
      timeoutMs: (name) =>
        this.#options.timeouts?.get(name) ?? plugin.timeouts?.[name] ?? defaultTimeoutMs,
      exports: record.exports,
      platforms: record.platforms,
      capabilities: record.capabilities,
      resources,
      failpoints: this.#options.failpoints ?? noFailpoints,
      plugins: this.records,
      registerReadiness,
    });
    if (isAsyncDisposable(instance)) resources.use(instance);
    else if (isDisposable(instance)) resources.use(instance);
    record.started(instance);
    const owned = resources.move();
    daemon.defer(async () => {
      record.to("stopped");
      try {
        await owned.disposeAsync();
      } catch (error) {
        // The others must still be stopped; a disposer that fails has nobody else to tell.
        this.ctx.logger.error("failed to close plugin", { error, id: record.uri });
      }
    });
  }

  #resolve(plugin: AnyPlugin): Record<string, unknown> {
    const needs: Record<string, unknown> = {};
    for (const [name, need] of requirements(plugin)) {
      const peers = this.records.filter(
        (r) => r.plugin !== plugin && (need.type === "*" || r.type === need.type),
      );
      needs[name] = need.resolve(peers);
    }
    return needs;
  }

  #decode(plugin: AnyPlugin): unknown {
    if (!plugin.config) return undefined;
    const id = uri(plugin);
    const section = overlay(plugin.config.defaults, this.#options.section?.(id) ?? {});
    const warn = (path: readonly string[]): void =>
      this.ctx.logger.warn("Ignoring unknown key in TOML for plugin", {
        plugin: id,
        key: path.join(" "),
      });
    try {
      return plugin.config.decode(section, warn);
    } catch (error) {
      throw wrap(`invalid configuration of plugin ${id}`, error);
    }
  }
}

/** What must have happened before the daemon may say that it is ready. */
class Readiness {
  readonly #pending: Promise<void>[] = [];

  register(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pending.push(promise);
    return resolve;
  }

  async wait(signal: AbortSignal): Promise<void> {
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([Promise.all(this.#pending), aborted]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}

function assertIncluded(required: ReadonlySet<string>, plugins: readonly AnyPlugin[]): void {
  const missing = required.difference(new Set(plugins.map(uri)));
  if (missing.size === 0) return;
  throw new CodedError("unknown", `required plugin [${[...missing].join(" ")}] not included`);
}

function isAsyncDisposable(value: unknown): value is AsyncDisposable {
  return typeof value === "object" && value !== null && Symbol.asyncDispose in value;
}

function isDisposable(value: unknown): value is Disposable {
  return typeof value === "object" && value !== null && Symbol.dispose in value;
}
