import assert from "node:assert";
import { requiredTypes } from "#pkg/plugin/order.ts";
import {
  type AnyPlugin,
  type PluginPlatform,
  type PluginRecord,
  type PluginState,
  type TypeName,
  uri,
} from "#pkg/plugin/plugin.ts";

const moves: Readonly<Record<PluginState, readonly PluginState[]>> = {
  registered: ["disabled", "initialising"],
  disabled: [],
  initialising: ["started", "skipped", "failed"],
  started: ["stopped"],
  skipped: [],
  failed: [],
  stopped: [],
};

/** The graph's own, writable view of a plugin. */
export class LiveRecord implements PluginRecord {
  readonly plugin: AnyPlugin;
  readonly type: TypeName;
  readonly id: string;
  readonly uri: string;
  readonly requires: readonly string[];
  readonly platforms: PluginPlatform[] = [];
  readonly capabilities: string[] = [];
  readonly exports: Map<string, string> = new Map();
  #state: PluginState = "registered";
  #error: unknown;
  #instance: unknown;

  constructor(plugin: AnyPlugin) {
    this.plugin = plugin;
    this.type = plugin.type.name;
    this.id = plugin.id;
    this.uri = uri(plugin);
    this.requires = requiredTypes(plugin);
  }

  get state(): PluginState {
    return this.#state;
  }

  get error(): unknown {
    return this.#error;
  }

  get instance(): unknown {
    return this.#instance;
  }

  started(instance: unknown): void {
    this.#move("started");
    this.#instance = instance;
  }

  ended(state: "skipped" | "failed", error: unknown): void {
    this.#move(state);
    this.#error = error;
  }

  to(state: "disabled" | "initialising" | "stopped"): void {
    this.#move(state);
  }

  #move(to: PluginState): void {
    assert(moves[this.#state].includes(to), `plugin ${this.uri}: ${this.#state} -> ${to}`);
    this.#state = to;
  }
}
