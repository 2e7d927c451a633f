import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Container } from "#core/containers/containers.ts";
import { parseStartOutput } from "#core/runtime/bootstrap-convert.ts";
import { type BootstrapResult, formatBootstrap, legacyBootstrap } from "#core/runtime/bootstrap.ts";
import {
  type Bundle,
  deleteBundle,
  listBundles,
  readBundleFile,
  removeHidden,
  removeOrphanWork,
  writeBundleFile,
} from "#core/runtime/bundle.ts";
import type { ShimCommand } from "#core/runtime/shim-command.ts";
import type { ShimManager } from "#core/runtime/shim-manager.ts";
import type { ShimRecord } from "#core/runtime/shim-record.ts";
import { groupOf } from "#core/runtime/supervisor-group.ts";
import type { Context } from "#pkg/context.ts";
import { hasCode, isErrno, isNotFound } from "#pkg/errors.ts";

/** Bundles looked at side by side; a mute shim holds up one of them. */
const parallelMax = 16;
const SIGKILL = 9;

/**
 * Finds the tasks again that an earlier daemon left running: each bundle becomes a record, or is
 * cleaned up where its shim or its task is gone.
 */
export async function loadShims(ctx: Context, manager: ShimManager): Promise<void> {
  const { roots, unmount } = manager.options;
  const bundles = await listBundles(roots);
  const namespaces = new Set([...bundles.keys(), ...(await directories(roots.root))]);
  await Promise.all(
    [...namespaces].map(async (namespace) => {
      const inside = ctx.withNamespace(namespace).withLogger(ctx.logger.with({ namespace }));
      await removeHidden(join(roots.state, namespace), unmount);
      await eachLimited(bundles.get(namespace) ?? [], (bundle) => load(inside, manager, bundle));
      await manager.endForgotten(inside, namespace);
      const isAlive = (id: string): boolean => manager.records.get(namespace, id) !== undefined;
      await removeOrphanWork(roots.root, namespace, isAlive);
    }),
  );
}

/**
 * Never throws: one broken bundle must not keep the daemon from starting. What is not understood
 * stays as it is.
 */
async function load(ctx: Context, manager: ShimManager, bundle: Bundle): Promise<void> {
  const { timeouts } = manager.options;
  const bounded = ctx.withLogger(ctx.logger.with({ id: bundle.id })).withTimeout(timeouts.load);
  try {
    await loadBundle(bounded, manager, bundle);
  } catch (error) {
    bounded.logger.error("failed to load shim", { error });
  }
}

async function loadBundle(ctx: Context, manager: ShimManager, bundle: Bundle): Promise<void> {
  const { unmount, supervisorBinary } = manager.options;
  if ((await readdir(bundle.path)).length === 0) return deleteBundle(bundle, unmount);
  const container = await findContainer(ctx, manager, bundle.id);
  const bootstrap = await readBootstrap(bundle);
  const binary = await readBundleFile(bundle, "shim-binary-path");
  const group = bootstrap && groupOf(bootstrap, bundle.namespace);
  if (group) {
    const record = await manager.attachSupervised(ctx, bundle, group, {
      resume: bootstrap,
      phase: "live",
    });
    return settle(ctx, manager, record, container);
  }
  // What a bundle's shim is stands in it before that is started, and a supervisor is told of it
  // after `bootstrap.json` is written: nothing of this one has run.
  const isUnused = binary === undefined && !bootstrap;
  if (isUnused || binary === supervisorBinary) return deleteBundle(bundle, unmount);
  const record = await loadBinary(ctx, manager, bundle, {
    bootstrap,
    runtime: binary ?? container?.runtime.name ?? "",
  });
  if (record) await settle(ctx, manager, record, container);
}

/** Undefined when the shim was unreachable: then nothing is left of it. */
async function loadBinary(
  ctx: Context,
  manager: ShimManager,
  bundle: Bundle,
  shim: { readonly bootstrap: BootstrapResult | undefined; readonly runtime: string },
): Promise<ShimRecord | undefined> {
  const { unmount } = manager.options;
  let command: ShimCommand;
  try {
    command = await manager.findCommand(shim.runtime);
  } catch (error) {
    ctx.logger.error("nothing can clean up after the shim", { error });
    await deleteBundle(bundle, unmount);
    return;
  }
  try {
    if (!shim.bootstrap) throw new Error("bundle has neither bootstrap.json nor address");
    return await reconnect(ctx, manager, bundle, { bootstrap: shim.bootstrap, command });
  } catch (error) {
    ctx.logger.warn("unable to load shim", { error });
    const late = ctx.detached({ timeoutMs: manager.options.timeouts.cleanup });
    const exit = await command.delete(late, bundle).catch((problem: unknown) => {
      ctx.logger.warn("failed to clean up after shim", { error: problem });
      return undefined;
    });
    await manager.publishEnd(late, bundle, exit);
    await deleteBundle(bundle, unmount);
    return;
  }
}

async function reconnect(
  ctx: Context,
  manager: ShimManager,
  bundle: Bundle,
  shim: { readonly bootstrap: BootstrapResult; readonly command: ShimCommand },
): Promise<ShimRecord> {
  await using resources = new AsyncDisposableStack();
  resources.use(await manager.readLog(bundle));
  const record = await manager.attachBinary(ctx, bundle, {
    ...shim,
    phase: "live",
    resources: resources.move(),
  });
  try {
    await connectOrDowngrade(ctx, record);
    return record;
  } catch (error) {
    record.phase = "ending";
    await record.close();
    throw error;
  }
}

async function connectOrDowngrade(ctx: Context, record: ShimRecord): Promise<void> {
  try {
    await connect(ctx, record);
  } catch (error) {
    if (!hasCode(error, "not-implemented") || !record.link.downgrade()) throw error;
    ctx.logger.warn("failed to call task.PID, downgrading client API version to try again");
    await connect(ctx, record);
  }
}

async function connect(ctx: Context, record: ShimRecord): Promise<void> {
  await record.link.call(ctx, (tasks) => tasks.connect(ctx, record.id));
}

/** Keeps a shim that has its task and whose container is on record; ends any other. */
async function settle(
  ctx: Context,
  manager: ShimManager,
  record: ShimRecord,
  container: Container | undefined,
): Promise<void> {
  manager.records.add(record);
  let hasTask = true;
  try {
    const process = { id: record.id, execId: "" };
    await record.link.ask(ctx, (tasks) => tasks.state(ctx, process));
  } catch (error) {
    if (isNotFound(error)) hasTask = false;
    // It runs, and has not answered in time: it is no reason to kill a container.
    else ctx.logger.warn("cannot ask shim for its task, keeping it", { error });
  }
  if (hasTask && container) return;
  ctx.logger.info(hasTask ? "ending task without container" : "cleaning leaked shim process");
  await end(
    ctx.detached({ timeoutMs: manager.options.timeouts.cleanup }),
    manager,
    record,
    hasTask,
  );
}

async function end(
  ctx: Context,
  manager: ShimManager,
  record: ShimRecord,
  hasTask: boolean,
): Promise<void> {
  const process = { id: record.id, execId: "" };
  try {
    if (hasTask) {
      await record.link
        .call(ctx, (tasks) => tasks.kill(ctx, process, { signal: SIGKILL, all: true }))
        .catch((error: unknown) => {
          // It has ended by itself.
          if (!isNotFound(error)) throw error;
        });
      await record.link.ask(ctx, (tasks) => tasks.wait(ctx, process));
      record.deleted = await record.link.call(ctx, (tasks) => tasks.delete(ctx, process));
    }
    record.phase = "ending";
    await record.link.shutdown(ctx);
    await manager.forget(record);
  } catch (error) {
    ctx.logger.warn("failed to end shim", { error });
    record.phase = "ending";
    await manager.cleanUp(record);
  }
}

async function readBootstrap(bundle: Bundle): Promise<BootstrapResult | undefined> {
  const text = await readBundleFile(bundle, "bootstrap.json");
  if (text !== undefined) return parseStartOutput(Buffer.from(text));
  const address = await readBundleFile(bundle, "address");
  if (address === undefined || address === "") return undefined;
  const bootstrap = legacyBootstrap(address);
  await writeBundleFile(bundle, "bootstrap.json", formatBootstrap(bootstrap), 0o644);
  return bootstrap;
}

async function findContainer(
  ctx: Context,
  manager: ShimManager,
  id: string,
): Promise<Container | undefined> {
  try {
    return await manager.options.containers.get(ctx, id);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function directories(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

async function eachLimited<T>(
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const workers = Array.from({ length: parallelMax }, async () => {
    for (const item of queue) await work(item);
  });
  await Promise.all(workers);
}
