import { CodedError, invalidArgument } from "#pkg/errors.ts";
import { type AnyPlugin, type Requirement, type Requirements, uri } from "#pkg/plugin/plugin.ts";

/**
 * The order of initialisation: depth-first by required type, registration order among peers, as
 * upstream. Plugins whose uri is disabled are left out, as if never registered.
 *
 * Throws `invalid-argument` for an empty id, an id taken twice, a plugin that requires its own
 * type, one that requires `any()` beside others, and a cycle, each naming the uri.
 */
export function inOrder(
  registered: readonly AnyPlugin[],
  disabled: ReadonlySet<string> = new Set(),
): AnyPlugin[] {
  assertRegistrations(registered);
  const plugins = registered.filter((plugin) => !disabled.has(uri(plugin)));
  const ordered: AnyPlugin[] = [];
  const done = new Set<AnyPlugin>();
  const path: AnyPlugin[] = [];
  const visit = (plugin: AnyPlugin): void => {
    if (done.has(plugin)) return;
    if (path.includes(plugin)) {
      const cycle = [...path.slice(path.indexOf(plugin)), plugin].map(uri).join(" -> ");
      throw invalidArgument(`circular plugin dependency at ${uri(plugin)} (${cycle})`);
    }
    path.push(plugin);
    for (const type of requiredTypes(plugin)) {
      for (const peer of plugins) {
        if (peer !== plugin && (type === "*" || peer.type.name === type)) visit(peer);
      }
    }
    path.pop();
    done.add(plugin);
    ordered.push(plugin);
  };
  for (const plugin of plugins) visit(plugin);
  return ordered;
}

/** In the order declared, each once. */
export function requiredTypes(plugin: AnyPlugin): readonly string[] {
  return [...new Set(requirements(plugin).map(([, need]) => need.type))];
}

export function requirements(plugin: AnyPlugin): [string, Requirement<unknown>][] {
  return Object.entries(plugin.requires as Requirements); // -- AnyPlugin leaves the shape open
}

function assertRegistrations(plugins: readonly AnyPlugin[]): void {
  const seen = new Set<string>();
  for (const plugin of plugins) {
    if (plugin.id === "") throw invalidArgument(`plugin of type ${plugin.type.name}: no id`);
    const id = uri(plugin);
    if (seen.has(id)) throw new CodedError("already-exists", `${id}: plugin id already registered`);
    seen.add(id);
    const types = requiredTypes(plugin);
    if (types.includes(plugin.type.name)) {
      throw invalidArgument(`plugin ${id} requires its own type ${plugin.type.name}`);
    }
    if (types.includes("*") && requirements(plugin).length > 1) {
      throw invalidArgument(`plugin ${id} requires any() beside other types`);
    }
  }
}
