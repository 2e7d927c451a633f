import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

/**
 * Makes Node find the project's own `#` imports by the map in package.json alone.
 *
 * Left to itself it looks for a package.json in each folder above each importing file and for the
 * type of each file found: a seventh of what a command does until it is at work. For mains, before
 * they load the rest; disposing leaves Node to itself again. A specifier the map does not have, and
 * one that is no TypeScript file, goes Node's own way.
 */
export function resolveDirectly(projectDir: string): Disposable {
  const base = pathToFileURL(`${projectDir}/`).href;
  const folders = new Map<string, string>();
  // -- the project's own file; anything else in it than `#name/*: ./folder/*` is passed over
  const { imports } = JSON.parse(readFileSync(`${projectDir}/package.json`, "utf8")) as {
    imports: Readonly<Record<string, string>>;
  };
  for (const [name, target] of Object.entries(imports)) {
    if (!name.endsWith("/*") || !target.startsWith("./") || !target.endsWith("/*")) continue;
    folders.set(name.slice(0, -1), base + target.slice("./".length, -1));
  }
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      if (!specifier.startsWith("#") || !specifier.endsWith(".ts")) return next(specifier, context);
      const slash = specifier.indexOf("/") + 1;
      const folder = folders.get(specifier.slice(0, slash));
      if (folder === undefined) return next(specifier, context);
      return {
        url: folder + specifier.slice(slash),
        format: "module-typescript",
        shortCircuit: true,
      };
    },
  });
  return { [Symbol.dispose]: () => hooks.deregister() };
}
