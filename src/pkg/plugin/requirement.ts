import { CodedError, codeOf, messageOf, notFound } from "#pkg/errors.ts";
import {
  type PluginRecord,
  type PluginType,
  type Requirement,
  SkipPlugin,
} from "#pkg/plugin/plugin.ts";

/** Exactly one plugin of the type must have started. */
export function one<I>(type: PluginType<I>): Requirement<I> {
  return {
    type: type.name,
    resolve(peers) {
      const found = single(type, peers);
      if (found) return instanceOf(type, found);
      throw missing(type.name, peers);
    },
  };
}

/**
 * The one plugin of the type that started, if any; with an id, that one. More than one is an error.
 */
export function optional<I>(type: PluginType<I>, id?: string): Requirement<I | undefined> {
  return {
    type: type.name,
    resolve(peers) {
      const found = single(type, id === undefined ? peers : peers.filter((p) => p.id === id));
      return found && instanceOf(type, found);
    },
  };
}

/**
 * The plugin of the type with this id must have started; where it was skipped, so is the one that
 * asks.
 */
export function byId<I>(type: PluginType<I>, id: string): Requirement<I> {
  return {
    type: type.name,
    resolve(peers) {
      const found = peers.find((p) => p.id === id);
      if (found?.state === "started") return instanceOf(type, found);
      if (found?.state === "skipped") {
        throw new SkipPlugin(`${found.uri} was skipped`, { cause: found.error });
      }
      throw missing(`${type.name}.${id}`, found ? [found] : []);
    },
  };
}

/** Every plugin of the type that started, by id, in the order of their start. May be empty. */
export function all<I>(type: PluginType<I>): Requirement<ReadonlyMap<string, I>> {
  return {
    type: type.name,
    resolve(peers) {
      const started = peers.filter((p) => p.state === "started");
      return new Map(started.map((p) => [p.id, instanceOf(type, p)]));
    },
  };
}

/** As `all`, for what must not be passed over: throws where one of the type failed. */
export function allOrNone<I>(type: PluginType<I>): Requirement<ReadonlyMap<string, I>> {
  return {
    type: type.name,
    resolve(peers) {
      if (peers.some((p) => p.state === "failed")) throw missing(type.name, peers);
      return all(type).resolve(peers);
    },
  };
}

/** Every other plugin, whatever became of it: Go's `"*"`. Must be a plugin's only requirement. */
export function any(): Requirement<readonly PluginRecord[]> {
  return { type: "*", resolve: (peers) => peers };
}

function single<I>(type: PluginType<I>, peers: readonly PluginRecord[]): PluginRecord | undefined {
  const [first, second] = peers.filter((p) => p.state === "started");
  if (second !== undefined) {
    throw new CodedError("unknown", `multiple plugins registered for ${type.name}`);
  }
  return first;
}

function instanceOf<I>(_type: PluginType<I>, record: PluginRecord): I {
  return record.instance as I; // -- the graph hands a requirement only records of its own type
}

function missing(what: string, peers: readonly PluginRecord[]): CodedError {
  const failed = peers.find((p) => p.state === "failed");
  // Reads `no plugins registered for <what>: plugin: not found`, upstream's words.
  if (!failed) return notFound(`no plugins registered for ${what}: plugin`);
  return new CodedError(
    codeOf(failed.error),
    `required plugin ${failed.uri} failed: ${messageOf(failed.error)}`,
    { cause: failed.error },
  );
}
