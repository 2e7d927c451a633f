import { createReadStream } from "node:fs";
import { glob } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize } from "node:path";
import { buffer } from "node:stream/consumers";
import { type Config, configVersion, defaultConfig } from "#cmd/containerd/config/config.ts";
import { type ConfigFile, parseConfigFile } from "#cmd/containerd/config/file.ts";
import { mergeConfig } from "#cmd/containerd/config/merge.ts";
import { migrateConfigFile } from "#cmd/containerd/config/migrate.ts";
import { CodedError, invalidArgument, isErrno, notFound, wrap } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { quote } from "#pkg/log-format.ts";
import type { AnyPlugin } from "#pkg/plugin/plugin.ts";

/** More files than anyone has; a glob over the wrong folder is not read to its end. */
const filesMax = 1024;
/** Much more than anyone writes; a device or a pipe without end is not read for ever. */
const fileBytesMax = 16 << 20;

export interface LoadOptions {
  readonly plugins: readonly AnyPlugin[];
  readonly logger: Logger;
}

/**
 * Reads the configuration at `path` and what it imports over the defaults.
 *
 * Imports are paths or patterns, relative to the file that names them; each file is read once, so
 * they may name each other. Every file is migrated by itself. Throws `not-found` for a file that is
 * missing, the first one included, and `invalid-argument` for one that does not parse, each naming
 * the file.
 */
export async function loadConfig(path: string, options: LoadOptions): Promise<Config> {
  let config = defaultConfig();
  const loaded = new Set<string>();
  const pending = [path];
  for (let file = pending.shift(); file !== undefined; file = pending.shift()) {
    if (loaded.has(file)) continue;
    if (loaded.size >= filesMax) {
      throw new CodedError("resource-exhausted", `more than ${filesMax} configuration files`);
    }
    loaded.add(file);
    const parsed = await readConfigFile(file, options.logger);
    config = mergeConfig(config, migrateConfigFile(parsed, configVersion, options));
    pending.push(...(await resolveImports(file, parsed.imports ?? [])));
  }
  try {
    assertUris("disabled", config.disabledPlugins);
    assertUris("required", config.requiredPlugins);
  } catch (error) {
    throw wrap(`failed to load TOML from ${path}`, error);
  }
  return config;
}

async function readConfigFile(path: string, logger: Logger): Promise<ConfigFile> {
  let toml: string;
  try {
    toml = await readText(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) {
      throw notFound(`open ${path}: no such file or directory`, { cause: error });
    }
    if (isErrno(error, "EISDIR")) {
      throw new CodedError("invalid-argument", `read ${path}: is a directory`, { cause: error });
    }
    throw wrap(`open ${path}`, error);
  }
  try {
    const file = parseConfigFile(toml, (key) =>
      logger.warn("Ignoring unknown key in TOML", { file: path, key }),
    );
    assertVersion(file.version ?? 0);
    return file;
  } catch (error) {
    throw wrap(`failed to load TOML from ${path}`, error);
  }
}

async function readText(path: string): Promise<string> {
  const bytes = await buffer(createReadStream(path, { end: fileBytesMax }));
  if (bytes.length <= fileBytesMax) return bytes.toString("utf8");
  throw new CodedError("resource-exhausted", `more than ${fileBytesMax} bytes`);
}

function assertVersion(version: number): void {
  if (version >= 0 && version <= configVersion) return;
  throw new CodedError(
    "invalid-argument",
    `expected containerd config version equal to or less than \`${configVersion}\`, ` +
      `got \`${version}\``,
  );
}

function assertUris(kind: string, uris: readonly string[]): void {
  for (const uri of uris) {
    if (uri.includes(".")) continue;
    throw invalidArgument(`invalid ${kind} plugin URI ${quote(uri)} expect io.containerd.x.vx`);
  }
}

/** In the order named; the matches of a pattern by name. */
async function resolveImports(parent: string, imports: readonly string[]): Promise<string[]> {
  const resolved: string[] = [];
  for (const named of imports) {
    const path = isAbsolute(named) ? normalize(named) : join(dirname(parent), named);
    if (!path.includes("*")) {
      resolved.push(path);
      continue;
    }
    const matches: string[] = [];
    for await (const match of glob(path)) {
      matches.push(match);
      if (matches.length > filesMax) break;
    }
    resolved.push(...matches.sort());
  }
  return resolved;
}
