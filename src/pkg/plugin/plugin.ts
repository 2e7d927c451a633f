import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import type { Failpoints } from "#pkg/failpoint.ts";

declare const instance: unique symbol;

/** A slot in the daemon, `io.containerd.<type>.v<n>`, and the interface its holders implement. */
export interface PluginType<Instance> {
  readonly name: TypeName;
  /**
   * Type only, and invariant: ties the name to exactly this interface. Never present at run time.
   */
  readonly [instance]?: (value: Instance) => Instance;
}

export type TypeName = `io.containerd.${string}.v${number}`;

export function pluginType<Instance>(name: TypeName): PluginType<Instance> {
  return { name };
}

/** A table as an operator writes it in TOML. */
export type ConfigTable = { readonly [key: string]: unknown };

/**
 * A plugin's section of the configuration.
 *
 * `defaults` is what `config default` prints under the plugin's uri, with the keys as written in
 * TOML. `decode` is given the defaults overlaid with the file's section, reports keys it does not
 * know by their path, and throws `invalid-argument` naming key, expected and given. `pluginConfig`
 * makes one from a schema.
 */
export interface PluginConfig<Config> {
  readonly defaults: ConfigTable;
  decode(section: ConfigTable, onUnknownKey: (path: readonly string[]) => void): Config;
  /**
   * Moves keys of an older file to their place in `fromVersion + 1`; may read and write other
   * plugins' sections.
   */
  migrate?(fromVersion: number, sections: Record<string, unknown>): void;
}

export interface PluginPlatform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
  readonly osVersion?: string | undefined;
  readonly osFeatures?: readonly string[] | undefined;
}

/**
 * Where a plugin stands. Only these moves exist: `registered -> disabled`, `registered ->
 * initialising -> started | skipped | failed`, `started -> stopped`.
 */
export type PluginState =
  | "registered"
  | "disabled"
  | "initialising"
  | "started"
  | "skipped"
  | "failed"
  | "stopped";

/** What the daemon knows of one plugin, live: introspection reads these. */
export interface PluginRecord {
  readonly type: TypeName;
  readonly id: string;
  readonly uri: string;
  /** Names of the required types in the order declared, `*` for all. */
  readonly requires: readonly string[];
  readonly state: PluginState;
  readonly platforms: readonly PluginPlatform[];
  readonly capabilities: readonly string[];
  readonly exports: ReadonlyMap<string, string>;
  /** Why it was skipped or failed. */
  readonly error: unknown;
  /** Meaningful only while `state` is `started`. */
  readonly instance: unknown;
}

/**
 * What a plugin asks of others. Made by `one`, `all`, `allOrNone`, `optional`, `byId` and
 * `any`.
 *
 * `type` alone decides the order: every plugin of that type is initialised before the one that
 * asks, as upstream.
 */
export interface Requirement<Resolved> {
  readonly type: TypeName | "*";
  /** Given the plugins of the type whose turn has been; throws when they do not satisfy it. */
  resolve(peers: readonly PluginRecord[]): Resolved;
}

export type Requirements = Readonly<Record<string, Requirement<unknown>>>;

export type Resolved<R extends Requirements> = {
  readonly [K in keyof R]: R[K] extends Requirement<infer T> ? T : never;
};

/**
 * Given to `init`. Nothing in it outlives the daemon; its signal aborts before the first plugin is
 * stopped.
 */
export interface InitContext<R extends Requirements, Config> {
  /** The daemon's lifetime, with a logger that names the plugin. */
  readonly ctx: Context;
  readonly needs: Resolved<R>;
  readonly config: Config;
  /** `<root>/<uri>`; not created yet. */
  readonly rootDir: string;
  /** `<state>/<uri>`; not created yet. */
  readonly stateDir: string;
  /** Where the daemon will serve; nothing listens there before all plugins are initialised. */
  readonly grpcAddress: string;
  readonly ttrpcAddress: string;
  /**
   * The timeout of that name in milliseconds: as configured, else as the plugin declared it, else
   * one second.
   */
  readonly timeoutMs: (name: string) => number;
  /** Shown by introspection. */
  readonly exports: Map<string, string>;
  readonly platforms: PluginPlatform[];
  readonly capabilities: string[];
  /** Disposed after the instance when the plugin stops, and at once when `init` throws. */
  readonly resources: AsyncDisposableStack;
  /** For code that promises to survive a crash between its steps. */
  readonly failpoints: Failpoints;
  /** Every plugin whose turn has been so far, in order; grows while the daemon starts. */
  readonly plugins: readonly PluginRecord[];
  /**
   * Keeps the daemon from calling itself ready until the returned function was called. A plugin
   * that failed after asking for this stops the daemon.
   */
  readonly registerReadiness: () => () => void;
}

export interface Plugin<I, R extends Requirements, Config> {
  readonly type: PluginType<I>;
  readonly id: string;
  readonly requires: R;
  readonly config?: PluginConfig<Config> | undefined;
  /**
   * Defaults in milliseconds of the timeouts it asks for, by name (`io.containerd.timeout.<what>`).
   */
  readonly timeouts?: Readonly<Record<string, number>> | undefined;
  /**
   * An instance that is disposable is disposed when the daemon stops, before everything it
   * required.
   */
  init(context: InitContext<R, Config>): Promise<NoInfer<I>>;
}

// oxlint-disable-next-line typescript/no-explicit-any -- the one place where plugins of every shape meet
export type AnyPlugin = Plugin<any, any, any>;

/** Identity at run time: it exists to infer the type parameters. */
export function definePlugin<I, const R extends Requirements, Config = undefined>(
  plugin: Plugin<I, R, Config>,
): Plugin<I, R, Config> {
  return plugin;
}

export function uri(plugin: AnyPlugin): string {
  return `${plugin.type.name}.${plugin.id}`;
}

/**
 * Thrown by `init` where the plugin does not fit the host or its configuration: a normal thing,
 * logged as info and shown as `skip`.
 */
export class SkipPlugin extends CodedError {
  constructor(reason: string, options?: ErrorOptions) {
    // Clients tell `skip` from `error` by these words.
    super("unknown", reason === "" ? "skip plugin" : `${reason}: skip plugin`, options);
  }
}
