import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

/**
 * Makes Node find the project's own modules by their names and the map in package.json alone.
 *
 * Left to itself it looks for a package.json in each folder above each importing file and for the
 * type of each file found: a seventh of what a command does until it is at work. For mains, before
 * they load the rest; disposing leaves Node to itself again. A specifier the map does not have, and
 * one that is no TypeScript file, goes Node's own way.
 */
export function resolveDirectly(projectDir: string): Disposable {
  const base = pathToFileURL(`${projectDir}/`).href;
  const sources = `${base}src/`;
  const folders = new Map<string, string>();
  // -- the project's own file; anything else in it than `#name/*: ./folder/*` is passed over
  const { imports } = JSON.parse(readFileSync(`${projectDir}/package.json`, "utf8")) as {
    imports: Readonly<Record<string, string>>;
  };
  for (const [name, target] of Object.entries(imports)) {
    if (!name.endsWith("/*") || !target.startsWith("./") || !target.endsWith("/*")) continue;
    folders.set(name.slice(0, -1), base + target.slice("./".length, -1));
  }
  const find = (specifier: string, parent: string | undefined): string | undefined => {
    if (specifier.startsWith("./")) {
      return parent?.startsWith(sources) ? new URL(specifier, parent).href : undefined;
    }
    const slash = specifier.indexOf("/") + 1;
    const folder = folders.get(specifier.slice(0, slash));
    return folder === undefined ? undefined : folder + specifier.slice(slash);
  };
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const url = specifier.endsWith(".ts") ? find(specifier, context.parentURL) : undefined;
      if (url === undefined) return next(specifier, context);
      return { url, format: "module-typescript", shortCircuit: true };
    },
  });
  return { [Symbol.dispose]: () => hooks.deregister() };
}
