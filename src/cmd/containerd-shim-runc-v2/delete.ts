import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { writeSync } from "node:fs";
import { isErrno } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import { linux } from "#pkg/sys/linux.ts";
import { deleteTask } from "#shim/delete-task.ts";
import { defaultOptions, parseOptions, type RuncOptions } from "#shim/options.ts";
import { formatDeleteResponse } from "./bootstrap-convert.ts";
import { standaloneChildren } from "./children.ts";
import type { Flags } from "./flags.ts";

/**
 * What a daemon calls when the supervisor of a task is dead: ends what is left and prints how it
 * ended.
 */
export async function deleteBundle(flags: Flags, logger: Logger): Promise<void> {
  const bundle = join(dirname(process.cwd()), flags.id);
  using standalone = standaloneChildren();
  const exit = await deleteTask({
    sys: linux,
    logger,
    children: standalone.children,
    searchPath: standalone.searchPath,
    namespace: flags.namespace,
    id: flags.id,
    bundle,
    runtime: (await readIfThere(join(bundle, "runtime"))) ?? "",
    options: await readOptions(bundle),
  });
  writeSync(1, formatDeleteResponse(exit));
}

async function readOptions(bundle: string): Promise<RuncOptions> {
  const text = await readIfThere(join(bundle, "options.json"));
  return text === undefined ? defaultOptions : parseOptions(text);
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}
