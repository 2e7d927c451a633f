import { imageDelete, snapshotRemove } from "#core/events/convert.ts";
import { topics } from "#core/events/topics.ts";
import type {
  CollectionStats,
  Collector,
  ResourceCollection,
  ResourceCollector,
} from "#core/gc/gc.ts";
import { collect, type Removed } from "#core/metadata/collection.ts";
import { mark } from "#core/metadata/mark.ts";
import type { MetadataState } from "#core/metadata/state.ts";
import { Coalescer } from "#pkg/coalescer.ts";
import type { Context } from "#pkg/context.ts";
import { alreadyExists } from "#pkg/errors.ts";
import { settledOrAborted } from "#pkg/until.ts";

/** Removes from one backend what no record names. */
export type Sweep = (ctx: Context) => Promise<void>;

/**
 * Collects: marks over one state of the database while writers go on, deletes records in one short transaction, then
 * sweeps each backend that lost some.
 *
 * Sweeps take nothing that is being written meanwhile (`MetadataState.locks`), and a crash between the two leaves
 * garbage without records, which the first collection after the next start sweeps: it takes every backend.
 */
export class MetadataCollector implements Collector {
  readonly #state: MetadataState;
  readonly #sweeps: ReadonlyMap<string, Sweep>;
  readonly #resources = new Map<string, ResourceCollector>();
  readonly #runs: Coalescer<CollectionStats>;

  /** `ctx` is the owner's lifetime: a collection is not its caller's, who may leave while others wait for it. */
  constructor(ctx: Context, state: MetadataState, sweeps: ReadonlyMap<string, Sweep>) {
    this.#state = state;
    this.#sweeps = sweeps;
    this.#runs = new Coalescer(() => this.#collect(ctx));
  }

  async scheduleAndWait(ctx: Context): Promise<CollectionStats> {
    return settledOrAborted(this.#runs.run(), ctx);
  }

  register(collector: ResourceCollector): Disposable {
    const { kind } = collector;
    if (this.#resources.has(kind)) throw alreadyExists(`collector of ${kind}`);
    this.#resources.set(kind, collector);
    return { [Symbol.dispose]: () => void this.#resources.delete(kind) };
  }

  async idle(): Promise<void> {
    await this.#runs.idle();
  }

  async #collect(ctx: Context): Promise<CollectionStats> {
    const startedAt = performance.now();
    const resources = this.#startResources(ctx);
    let removed: readonly Removed[];
    let pausedMs = 0;
    try {
      using watch = this.#state.watch();
      const nowMs = Date.now();
      using snapshot = this.#state.db.snapshot();
      const marked = await mark(snapshot, nowMs);
      const released = new Set(this.#state.released);
      this.#state.failpoints.hit("metadata.marked");
      removed = await this.#state.updateQuietly((tx) => {
        const pausedAt = performance.now();
        const { touched } = watch;
        const all = collect(tx, { nowMs, marked, touched, released, resources });
        pausedMs = marked.heldMs + performance.now() - pausedAt;
        return all;
      });
      for (const node of released) this.#state.released.delete(node);
    } catch (error) {
      for (const collection of resources.values()) collection.cancel();
      throw error;
    }
    this.#state.collected();
    this.#state.failpoints.hit("metadata.collected-before-sweep");
    await this.#announce(ctx, removed);
    await this.#sweepBackends(ctx);
    for (const [kind, collection] of resources) {
      await logged(ctx, `collection of ${kind}`, collection.finish(ctx));
    }
    return { elapsedMs: performance.now() - startedAt, pausedMs };
  }

  #startResources(ctx: Context): ReadonlyMap<string, ResourceCollection> {
    const started = new Map<string, ResourceCollection>();
    for (const [kind, collector] of this.#resources) {
      try {
        started.set(kind, collector.start(ctx));
      } catch (error) {
        ctx.logger.warn(`collection of ${kind} could not start`, { error });
      }
    }
    return started;
  }

  async #announce(ctx: Context, removed: readonly Removed[]): Promise<void> {
    for (const { ns, kind, key } of removed) {
      const inNamespace = ctx.withNamespace(ns);
      if (kind === "image") {
        const event = imageDelete({ name: key });
        await logged(ctx, "event", this.#state.publish(inNamespace, topics.imageDelete, event));
      } else if (kind.startsWith("snapshot/")) {
        const event = snapshotRemove({ key, snapshotter: kind.slice("snapshot/".length) });
        await logged(ctx, "event", this.#state.publish(inNamespace, topics.snapshotRemove, event));
      }
    }
  }

  async #sweepBackends(ctx: Context): Promise<void> {
    const dirty = [...this.#state.dirtyBackends];
    const sweeps = dirty.map(async (backend) => {
      const sweep = this.#sweeps.get(backend);
      // A snapshotter that is not loaded keeps its mark: it is swept when it is back.
      if (!sweep) return;
      this.#state.dirtyBackends.delete(backend);
      const swept = await logged(ctx, `sweep of ${backend}`, sweep(ctx));
      if (!swept) this.#state.dirtyBackends.add(backend);
    });
    await Promise.all(sweeps);
  }
}

/** What fails after the records are gone is tried again by a later collection. */
async function logged(ctx: Context, what: string, work: Promise<void>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    ctx.logger.warn(`garbage collection: ${what} failed`, { error });
    return false;
  }
}
