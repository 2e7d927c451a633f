import { readdir } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { parseStartOutput } from "#core/runtime/bootstrap-convert.ts";
import { type BootstrapResult, formatBootstrap, legacyBootstrap } from "#core/runtime/bootstrap.ts";
import {
  type Bundle,
  type BundleRoots,
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

/** Bundles of one kind, and what says which of them are still wanted. */
export interface ShimPlace {
  readonly roots: BundleRoots;
  /** The runtime that the record of that id names; undefined where there is no record. */
  findRuntime(ctx: Context, id: string): Promise<string | undefined>;
  /** Whether the shim that serves still has what its bundle was made for. */
  isInUse(ctx: Context, record: ShimRecord): Promise<boolean>;
  isKept(state: { readonly isOnRecord: boolean; readonly isInUse: boolean }): boolean;
  /** Ends what is not kept, before its shim is told that it may go. */
  end(ctx: Context, record: ShimRecord, state: { readonly isInUse: boolean }): Promise<void>;
  /** After the bundles of a namespace: ends what has none. */
  endForgotten(ctx: Context, namespace: string): Promise<void>;
}

/** A task needs its container: without it no client reaches it. */
export function taskPlace(manager: ShimManager): ShimPlace {
  const { containers, roots } = manager.options;
  return {
    roots,
    findRuntime: async (ctx, id) => {
      const container = await foundOrUndefined(containers.get(ctx, id));
      return container?.runtime.name;
    },
    isInUse: async (ctx, record) => {
      const process = { id: record.id, execId: "" };
      const state = record.link.ask(ctx, (tasks) => tasks.state(ctx, process));
      return (await foundOrUndefined(state)) !== undefined;
    },
    isKept: ({ isOnRecord, isInUse }) => isOnRecord && isInUse,
    end: async (ctx, record, { isInUse }) => {
      if (isInUse) await endTask(ctx, record);
    },
    endForgotten: (ctx, namespace) => manager.endForgotten(ctx, namespace),
  };
}

async function endTask(ctx: Context, record: ShimRecord): Promise<void> {
  const process = { id: record.id, execId: "" };
  // One that is not found has ended by itself.
  await foundOrUndefined(
    record.link.call(ctx, (tasks) => tasks.kill(ctx, process, { signal: SIGKILL, all: true })),
  );
  await record.link.ask(ctx, (tasks) => tasks.wait(ctx, process));
  record.deleted = await record.link.call(ctx, (tasks) => tasks.delete(ctx, process));
}

/**
 * Finds the tasks or sandboxes again that an earlier daemon left running: each bundle becomes a
 * record, or is cleaned up where its shim or what it was for is gone.
 */
export async function loadShims(
  ctx: Context,
  manager: ShimManager,
  place: ShimPlace,
): Promise<void> {
  const { unmount } = manager.options;
  const { roots } = place;
  const bundles = await listBundles(roots);
  const namespaces = new Set([...bundles.keys(), ...(await directories(roots.root))]);
  await Promise.all(
    [...namespaces].map(async (namespace) => {
      const inside = ctx.withNamespace(namespace).withLogger(ctx.logger.with({ namespace }));
      // The next start tries again; the containers beside it are found all the same.
      await removeHidden(join(roots.state, namespace), unmount).catch((error: unknown) => {
        inside.logger.warn("failed to finish a bundle's removal", { error });
      });
      await eachLimited(bundles.get(namespace) ?? [], (bundle) =>
        load(inside, manager, place, bundle),
      );
      await place.endForgotten(inside, namespace);
      // That of a bundle whose loading failed is as much in use as that of any other.
      const left = new Set(await directories(join(roots.state, namespace)));
      await removeOrphanWork(roots.root, namespace, (id) => left.has(id));
    }),
  );
}

/**
 * Never throws: one broken bundle must not keep the daemon from starting. It stays for the next
 * start, unless its shim was found to be gone.
 */
async function load(
  ctx: Context,
  manager: ShimManager,
  place: ShimPlace,
  bundle: Bundle,
): Promise<void> {
  const { timeouts } = manager.options;
  const bounded = ctx.withLogger(ctx.logger.with({ id: bundle.id })).withTimeout(timeouts.load);
  try {
    await loadBundle(bounded, manager, place, bundle);
  } catch (error) {
    bounded.logger.error("failed to load shim", { error });
  }
}

async function loadBundle(
  ctx: Context,
  manager: ShimManager,
  place: ShimPlace,
  bundle: Bundle,
): Promise<void> {
  const { unmount, supervisorBinary } = manager.options;
  if ((await readdir(bundle.path)).length === 0) return deleteBundle(bundle, unmount);
  const runtime = await place.findRuntime(ctx, bundle.id);
  const isOnRecord = runtime !== undefined;
  const bootstrap = await readBootstrap(bundle);
  const binary = await readBundleFile(bundle, "shim-binary-path");
  const group = bootstrap && groupOf(bootstrap, bundle.namespace);
  if (group) {
    const record = await manager.attachSupervised(ctx, bundle, group, bootstrap);
    return settle(ctx, manager, place, { record, isOnRecord });
  }
  // What a bundle's shim is stands in it before that is started, and a supervisor is told of it
  // after `bootstrap.json` is written: nothing of this one has run.
  const isUnused = binary === undefined && !bootstrap;
  if (isUnused || binary === supervisorBinary) return deleteBundle(bundle, unmount);
  const record = await loadBinary(ctx, manager, bundle, {
    bootstrap,
    runtime: binary ?? runtime ?? "",
  });
  if (record) await settle(ctx, manager, place, { record, isOnRecord });
}

/** Undefined when the shim was unreachable: then nothing is left of it. */
async function loadBinary(
  ctx: Context,
  manager: ShimManager,
  bundle: Bundle,
  shim: { readonly bootstrap: BootstrapResult | undefined; readonly runtime: string },
): Promise<ShimRecord | undefined> {
  const { unmount } = manager.options;
  const command = await commandOf(ctx, manager, shim.runtime);
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

/** A shim that serves needs no program, which an upgrade may have moved; one that is gone does. */
async function commandOf(
  ctx: Context,
  manager: ShimManager,
  runtime: string,
): Promise<ShimCommand> {
  if (isAbsolute(runtime)) return manager.command(runtime);
  try {
    return await manager.findCommand(runtime);
  } catch (error) {
    ctx.logger.warn("nothing could clean up after the shim", { error });
    return manager.command(runtime);
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
    resources: resources.move(),
  });
  try {
    await connectOrDowngrade(ctx, record);
    return record;
  } catch (error) {
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

/** Keeps a shim that is wanted; ends any other. */
async function settle(
  ctx: Context,
  manager: ShimManager,
  place: ShimPlace,
  { record, isOnRecord }: { readonly record: ShimRecord; readonly isOnRecord: boolean },
): Promise<void> {
  manager.records.add(record);
  // One that dies before is nobody's to clean up after, one that dies later is the manager's.
  if (record.link.isLost) return void (await manager.cleanUp(record));
  record.phase = "live";
  let isInUse = true;
  try {
    isInUse = await place.isInUse(ctx, record);
  } catch (error) {
    // It runs, and has not answered in time: it is no reason to kill a container.
    ctx.logger.warn("cannot ask shim for its task, keeping it", { error });
  }
  if (place.isKept({ isOnRecord, isInUse })) return;
  ctx.logger.info(isInUse ? "ending task without container" : "cleaning leaked shim process");
  const own = ctx.detached({ timeoutMs: manager.options.timeouts.cleanup });
  // A shim that goes on the way is cleaned up after here.
  record.phase = "ending";
  try {
    await place.end(own, record, { isInUse });
    await record.link.shutdown(own);
    await manager.forget(record);
  } catch (error) {
    own.logger.warn("failed to end shim", { error });
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

/** Undefined for what is not found. */
export async function foundOrUndefined<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
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
