import type { Deprecation } from "#core/introspection/deprecations.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { PluginRecord } from "#pkg/plugin/plugin.ts";

export interface ServerInfo {
  /** Made when a root is first used, the same from then on. */
  readonly uuid: string;
  readonly pid: number;
  /** Inode of the pid namespace in which `pid` counts. */
  readonly pidns: number;
  readonly deprecations: readonly Deprecation[];
}

export interface PluginInfo {
  readonly plugin: PluginRecord;
  /** What the plugin itself had to say to the options. */
  readonly extra: Any | undefined;
}

/** What the daemon says about itself. */
export interface Introspection {
  /**
   * The plugins that match one of the filters (none: all), in the order of their start. Filters
   * know `type` and `id`. Throws `invalid-argument` for a filter that does not parse.
   */
  plugins(filters?: readonly string[]): readonly PluginRecord[];
  server(): Promise<ServerInfo>;
  /**
   * Throws `not-found`; with options also `failed-precondition` for a plugin that did not start,
   * and `not-implemented` for one that has nothing to say.
   */
  pluginInfo(
    ctx: Context,
    plugin: { type: string; id: string },
    options?: Any,
  ): Promise<PluginInfo>;
}

/** What an instance has that answers `pluginInfo` with options. */
export interface PluginInfoProvider {
  pluginInfo(ctx: Context, options: Any): Promise<Any>;
}
