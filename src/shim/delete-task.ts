import { join } from "node:path";
import { messageOf } from "#pkg/errors.ts";
import type { Logger } from "#pkg/log.ts";
import type { Syscalls } from "#pkg/sys/syscall.ts";
import { nowNanos } from "#pkg/time.ts";
import type { Children } from "./children.ts";
import { defaultRuntimeRoot, pidFileOf } from "./create-container.ts";
import { readExitRecord } from "./exit-record.ts";
import type { RuncOptions } from "./options.ts";
import { lookUp } from "./probe.ts";
import type { Exit } from "./process-state.ts";
import { readPidFile } from "./process-watch.ts";
import { rootfsOf, unmountBelow } from "./rootfs.ts";
import { RuntimeCli } from "./runtime-cli.ts";
import { removeTaskRecord } from "./task-record.ts";

const killedStatus = 137;

export interface DeleteTaskOptions {
  readonly sys: Syscalls;
  readonly logger: Logger;
  readonly children: Children;
  readonly searchPath: string;
  readonly namespace: string;
  readonly id: string;
  readonly bundle: string;
  /** As the bundle says, a path or a name; empty is runc. */
  readonly runtime: string;
  readonly options: RuncOptions;
}

/**
 * Ends what a dead supervisor has left of a task, by force, and says how its first process ended:
 * as recorded, else killed just now.
 *
 * What fails on the way is a warning: the daemon goes on cleaning up in any case.
 */
export async function deleteTask(options: DeleteTaskOptions): Promise<Exit> {
  const { logger, bundle, id, sys } = options;
  const steps: readonly (readonly [string, () => Promise<void>])[] = [
    ["failed to remove runc container", async () => (await runtimeOf(options)).delete(id, "force")],
    ["failed to cleanup rootfs mount", () => unmountBelow(sys, rootfsOf(bundle))],
    ["failed to remove task record", () => removeTaskRecord(bundle)],
  ];
  for (const [failure, step] of steps) {
    try {
      await step();
    } catch (error) {
      logger.warn(failure, { error: messageOf(error) });
    }
  }
  const at = nowNanos();
  return (
    (await readExitRecord(bundle)) ?? { pid: await initPid(options), status: killedStatus, at }
  );
}

async function runtimeOf(options: DeleteTaskOptions): Promise<RuntimeCli> {
  const name = options.runtime === "" ? "runc" : options.runtime;
  const root = options.options.root === "" ? defaultRuntimeRoot : options.options.root;
  const settings = {
    path: await lookUp(name, options.searchPath),
    name,
    root: join(root, options.namespace),
    bundle: options.bundle,
    systemdCgroup: options.options.systemdCgroup,
  };
  return new RuntimeCli(settings, options.children);
}

async function initPid({ bundle, logger }: DeleteTaskOptions): Promise<number> {
  try {
    return await readPidFile(pidFileOf(bundle), "failed to read init pid file");
  } catch (error) {
    logger.warn(messageOf(error));
    return 0;
  }
}
