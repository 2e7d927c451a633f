import { mkdir as makeDirectory, realpath } from "node:fs/promises";
import type {
  Resource,
  ResourceCollection,
  ResourceCollector,
  ResourceParent,
} from "#core/gc/gc.ts";
import { gcLinks } from "#core/metadata/gc-labels.ts";
import type {
  ActivateOptions,
  Activation,
  ActiveMount,
  MountHandler,
  MountManager,
  MountTransform,
} from "#core/mount/manager.ts";
import {
  ActivationFolder,
  type ActivationRecord,
  listFolders,
} from "#core/mount/manager/activation-folder.ts";
import { type ActivationPlan, planActivation } from "#core/mount/manager/plan.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Mounter } from "#core/mount/mounter.ts";
import { mountedBelow, resolveMountPoint } from "#core/runtime/bundle-mounts.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import { alreadyExists, CodedError, invalidArgument, notFound, wrap } from "#pkg/errors.ts";
import { field, labelField } from "#pkg/filters/filter.ts";
import { parseFilters } from "#pkg/filters/parse.ts";
import { KeyedMutex } from "#pkg/keyed-mutex.ts";
import { assertLabels, withoutEmpty } from "#pkg/label.ts";
import { nowNanos } from "#pkg/time.ts";

/** A name may be a path; upstream's bound for the mounts of one. */
const nameBytesMax = 8192;
const mountsMax = 255;
const activationsMax = 10_000;
/** How long undoing a failed activation may take after its context has ended. */
const undoMs = 10_000;

export interface LocalMountManagerOptions {
  /** The daemon's lifetime, under which it finds again what is there. */
  readonly ctx: Context;
  /** Where things are mounted: a folder for each activation. */
  readonly targets: string;
  readonly mounter: Mounter;
  readonly handlers: ReadonlyMap<string, MountHandler>;
  readonly transforms: ReadonlyMap<string, MountTransform>;
}

interface Entry {
  readonly folder: ActivationFolder;
  readonly record: ActivationRecord;
  readonly held: boolean;
}

/** The activations of this machine, each a folder of its own. */
export class LocalMountManager implements MountManager, ResourceCollector {
  readonly kind = "mount";
  readonly #options: LocalMountManagerOptions;
  readonly #entries = new Map<string, Map<string, Entry>>();
  /** Folders that are being made or undone: no leftovers. */
  readonly #pending = new Set<number>();
  readonly #locks = new KeyedMutex();
  #lastId = 0;
  #count = 0;

  private constructor(options: LocalMountManagerOptions) {
    this.#options = options;
  }

  /**
   * Takes over what an earlier daemon left: activations whose mounts are all there. What is recorded
   * and not mounted any more, or mounted without a record, is undone.
   */
  static async open(options: LocalMountManagerOptions): Promise<LocalMountManager> {
    const { ctx, targets } = options;
    await makeDirectory(targets, { recursive: true, mode: 0o700 });
    const manager = new LocalMountManager(options);
    const mounted = new Set<string | undefined>(await mountedBelow(await realpath(targets)));
    for (const folder of await listFolders(targets)) {
      manager.#lastId = Math.max(manager.#lastId, folder.id);
      const record = await folder.readRecord();
      if (record && (await manager.#isMounted(record.activation, mounted))) {
        manager.#add({ folder, record, held: false });
      } else await manager.#removeLeftover(ctx, folder);
    }
    return manager;
  }

  async activate(
    ctx: Context,
    name: string,
    mounts: readonly Mount[],
    options: ActivateOptions = {},
  ): Promise<Activation> {
    const namespace = requireNamespace(ctx);
    const labels = options.labels ?? {};
    assertRequest(name, mounts);
    assertLabels(labels);
    const { handlers, transforms } = this.#options;
    const { claims, temporary = false, held = false } = options;
    const plan = planActivation(mounts, { claims, temporary, handlers, transforms });
    if (plan.firstSystemMount === undefined) throw nothingToDo();
    using _ = await this.#locks.acquire(`${namespace}/${name}`, ctx.signal);
    if (this.#find(namespace, name)) throw alreadyExists(`mount ${JSON.stringify(name)}`);
    if (this.#count + this.#pending.size >= activationsMax) {
      throw new CodedError("resource-exhausted", `more than ${activationsMax} activations`);
    }
    const folder = new ActivationFolder(this.#options.targets, ++this.#lastId);
    this.#pending.add(folder.id);
    try {
      await using undo = new AsyncDisposableStack();
      await folder.create();
      undo.defer(() => this.#removeLeftover(ctx.detached({ timeoutMs: undoMs }), folder));
      const made = await this.#make(ctx, folder, mounts, { plan, temporary });
      const activation = { name, ...made, labels: withoutEmpty(labels) };
      const record = { namespace, lease: ctx.lease, activation };
      // A crash before leaves a folder without a record, which the next start undoes.
      await folder.writeRecord(record);
      this.#add({ folder, record, held });
      undo.move();
      return activation;
    } finally {
      this.#pending.delete(folder.id);
    }
  }

  async deactivate(ctx: Context, name: string): Promise<void> {
    const namespace = requireNamespace(ctx);
    using _ = await this.#locks.acquire(`${namespace}/${name}`, ctx.signal);
    const entry = this.#find(namespace, name);
    if (!entry) throw notFound(`mount ${JSON.stringify(name)}`);
    await this.#drop(ctx, entry);
  }

  async info(ctx: Context, name: string): Promise<Activation> {
    const entry = this.#find(requireNamespace(ctx), name);
    if (!entry) throw notFound(`mount ${JSON.stringify(name)}`);
    return entry.record.activation;
  }

  async list(ctx: Context, filters: readonly string[] = []): Promise<readonly Activation[]> {
    const matches = parseFilters(filters);
    return [...(this.#entries.get(requireNamespace(ctx))?.values() ?? [])]
      .map(({ record }) => record.activation)
      .filter(({ name, labels }) =>
        matches((path) => {
          if (path[0] === "name") return field(name);
          return path[0] === "labels" ? labelField(labels, path) : undefined;
        }),
      )
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  start(_ctx: Context): ResourceCollection {
    const doomed: Entry[] = [];
    return {
      all: () => this.#resources(() => true),
      active: () => this.#resources(({ held }) => held),
      leased: (namespace, lease) =>
        this.#resources(({ record }) => record.namespace === namespace && record.lease === lease),
      parents: ({ namespace, key }) => parentsOf(this.#find(namespace, key)),
      remove: ({ namespace, key }) => {
        const entry = this.#find(namespace, key);
        if (entry) doomed.push(entry);
      },
      finish: (ctx) => this.#sweep(ctx, doomed),
      cancel: () => {
        doomed.length = 0;
      },
    };
  }

  async #make(
    ctx: Context,
    folder: ActivationFolder,
    mounts: readonly Mount[],
    { plan, temporary }: { readonly plan: ActivationPlan; readonly temporary: boolean },
  ): Promise<Pick<Activation, "active" | "system">> {
    const { firstSystemMount = 0 } = plan;
    const active: ActiveMount[] = [];
    for (const [index, mount] of mounts.slice(0, firstSystemMount).entries()) {
      ctx.throwIfEnded();
      const transformed = await transform(ctx, mount, { plan, index, before: active });
      const point = await folder.addPoint(firstSystemMount - index, transformed.type);
      active.push(await this.#mount(ctx, transformed, point, active));
    }
    const system = mounts.slice(firstSystemMount);
    const [first] = system;
    if (first) {
      const last = plan.mounts[firstSystemMount]?.applyCount ?? 0;
      const where = { plan, index: firstSystemMount, before: active, count: last };
      system[0] = await transform(ctx, first, where);
    }
    const top = active.at(-1);
    if (temporary && top) {
      system.push({ type: "bind", source: top.mountPoint, target: "", options: ["rbind"] });
    }
    return { active, system };
  }

  async #mount(
    ctx: Context,
    mount: Mount,
    mountPoint: string,
    before: readonly ActiveMount[],
  ): Promise<ActiveMount> {
    const handler = this.#options.handlers.get(mount.type);
    if (handler) {
      try {
        return await handler.mount(ctx, mount, mountPoint, before);
      } catch (error) {
        throw wrap("mount handler failed", error);
      }
    }
    await makeDirectory(mountPoint, { mode: 0o700 });
    try {
      await this.#options.mounter.mountAll(ctx, [mount], mountPoint);
    } catch (error) {
      throw wrap("mount failed", error);
    }
    return { ...mount, mountedAt: nowNanos(), mountPoint, data: {} };
  }

  /** The record goes first: what then cannot be undone is left over, and tried again. */
  async #drop(ctx: Context, entry: Entry): Promise<void> {
    const { folder, record } = entry;
    await folder.removeRecord();
    // A collection that ends meanwhile would undo it as well, and one of the two find nothing.
    this.#pending.add(folder.id);
    try {
      this.#remove(record);
      await this.#undo(ctx, folder);
    } finally {
      this.#pending.delete(folder.id);
    }
  }

  async #undo(ctx: Context, folder: ActivationFolder): Promise<void> {
    const { handlers, mounter } = this.#options;
    const failures: unknown[] = [];
    for (const { path, type } of await folder.points()) {
      const handler = handlers.get(type);
      await (handler ? handler.unmount(ctx, path) : mounter.unmountAll(ctx, path)).catch(
        (error: unknown) => failures.push(error),
      );
    }
    if (failures.length > 0) throw wrap("failed to unmount", failures[0]);
    await folder.remove();
  }

  async #removeLeftover(ctx: Context, folder: ActivationFolder): Promise<void> {
    try {
      await folder.removeRecord();
      await this.#undo(ctx, folder);
    } catch (error) {
      ctx.logger.warn("failed to undo what is left of an activation", {
        path: folder.path,
        error,
      });
    }
  }

  async #sweep(ctx: Context, doomed: readonly Entry[]): Promise<void> {
    for (const entry of doomed) {
      const { namespace, activation } = entry.record;
      using _ = await this.#locks.acquire(`${namespace}/${activation.name}`, ctx.signal);
      if (this.#find(namespace, activation.name) !== entry) continue;
      await this.#drop(ctx, entry).catch((error: unknown) => {
        ctx.logger.warn("failed to deactivate collected mount", { name: activation.name, error });
      });
      ctx.logger.debug("mount collected", { namespace, name: activation.name });
    }
    const folders = await listFolders(this.#options.targets);
    // After the listing: what is made later is not in it.
    const known = new Set([...this.#pending, ...this.#ids()]);
    for (const folder of folders) {
      if (!known.has(folder.id)) await this.#removeLeftover(ctx, folder);
    }
  }

  *#ids(): Generator<number> {
    for (const entries of this.#entries.values()) {
      for (const { folder } of entries.values()) yield folder.id;
    }
  }

  async #isMounted(
    { active }: Activation,
    mounted: ReadonlySet<string | undefined>,
  ): Promise<boolean> {
    const found = await Promise.all(
      active.map(async ({ type, mountPoint }) => {
        const handler = this.#options.handlers.get(type);
        if (handler) return handler.isMounted(mountPoint);
        return mounted.has(await resolveMountPoint(mountPoint));
      }),
    );
    return found.every(Boolean);
  }

  #find(namespace: string, name: string): Entry | undefined {
    return this.#entries.get(namespace)?.get(name);
  }

  #add(entry: Entry): void {
    const { namespace, activation } = entry.record;
    const entries = this.#entries.get(namespace) ?? new Map<string, Entry>();
    this.#entries.set(namespace, entries.set(activation.name, entry));
    this.#count++;
  }

  #remove({ namespace, activation }: ActivationRecord): void {
    const entries = this.#entries.get(namespace);
    if (entries?.delete(activation.name)) this.#count--;
    if (entries?.size === 0) this.#entries.delete(namespace);
  }

  *#resources(wanted: (entry: Entry) => boolean): Generator<Resource> {
    for (const [namespace, entries] of this.#entries) {
      for (const [key, entry] of entries) if (wanted(entry)) yield { namespace, key };
    }
  }
}

async function transform(
  ctx: Context,
  mount: Mount,
  {
    plan,
    index,
    before,
    count,
  }: {
    readonly plan: ActivationPlan;
    readonly index: number;
    readonly before: readonly ActiveMount[];
    readonly count?: number;
  },
): Promise<Mount> {
  let transformed = mount;
  for (const { apply, type } of (plan.mounts[index]?.transforms ?? []).slice(0, count)) {
    transformed = await apply(ctx, { ...transformed, type }, before);
  }
  return transformed;
}

function parentsOf(entry: Entry | undefined): readonly ResourceParent[] {
  return entry ? gcLinks(entry.record.activation.labels).backRefs : [];
}

function assertRequest(name: string, mounts: readonly Mount[]): void {
  const size = Buffer.byteLength(name);
  if (size === 0 || size > nameBytesMax) {
    throw invalidArgument(`mount name of ${size} bytes, 1 to ${nameBytesMax}`);
  }
  if (mounts.length > mountsMax) {
    throw invalidArgument(`too many mounts (${mounts.length}): maximum ${mountsMax}`);
  }
}

function nothingToDo(): CodedError {
  return new CodedError("not-implemented", "not implemented");
}
