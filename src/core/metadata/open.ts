import type { ContentStore } from "#core/content/content.ts";
import type { Publisher } from "#core/events/events.ts";
import type { ResourceCollector } from "#core/gc/gc.ts";
import { NamespacedContainerStore } from "#core/metadata/container-store.ts";
import { NamespacedContentStore } from "#core/metadata/content-store.ts";
import { NamespacedImageStore } from "#core/metadata/image-store.ts";
import { NamespacedLeaseManager } from "#core/metadata/lease-manager.ts";
import { pruneAllNodes } from "#core/metadata/collection.ts";
import { MetadataCollector, type Sweep } from "#core/metadata/metadata-collector.ts";
import type { Metadata } from "#core/metadata/metadata.ts";
import { SqliteNamespaceStore } from "#core/metadata/namespace-store.ts";
import { NamespacedSandboxStore } from "#core/metadata/sandbox-store.ts";
import { migrations } from "#core/metadata/schema.ts";
import { settleCommits } from "#core/metadata/snapshot-commit.ts";
import { NamespacedSnapshotter } from "#core/metadata/snapshotter.ts";
import { MetadataState, type MutationListener } from "#core/metadata/state.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";
import type { Context } from "#pkg/context.ts";
import { type Failpoints, noFailpoints } from "#pkg/failpoint.ts";
import { DurableDatabase } from "#pkg/sqlite/database.ts";

export interface MetadataOptions {
  /** The database's file; its directory must exist. */
  readonly path: string;
  /** Blobs without namespaces. */
  readonly content: ContentStore;
  /** Snapshotters without namespaces, by name. They stay their owner's, as `content` does. */
  readonly snapshotters?: ReadonlyMap<string, Snapshotter> | undefined;
  /** Told of what changed, after it is on disk. */
  readonly publisher?: Publisher | undefined;
  /** Whether knowing a digest is enough to have the blob in another namespace; `shared` unless told. */
  readonly contentSharingPolicy?: "shared" | "isolated" | undefined;
  readonly noSync?: boolean | undefined;
  readonly lockTimeoutMs?: number | undefined;
  /** How long the opening waits for snapshotters to say what became of interrupted commits. */
  readonly settleTimeoutMs?: number | undefined;
  readonly failpoints?: Failpoints | undefined;
}

const settleTimeoutMsDefault = 10_000;

/**
 * Opens the daemon's database and settles what a crash interrupted.
 *
 * `ctx` is the daemon's lifetime: collections run under it. Throws `unavailable` when another process has the database,
 * `failed-precondition` when a newer version wrote it, `data-loss` when the file is no database.
 */
export async function openMetadata(ctx: Context, options: MetadataOptions): Promise<Metadata> {
  await using stack = new AsyncDisposableStack();
  const failpoints = options.failpoints ?? noFailpoints;
  const { path, noSync, lockTimeoutMs } = options;
  const db = await DurableDatabase.open(ctx, {
    path,
    migrations,
    noSync,
    lockTimeoutMs,
    failpoints,
  });
  stack.use(db);
  const backends = options.snapshotters ?? new Map<string, Snapshotter>();
  const state = new MetadataState({
    db,
    publisher: options.publisher,
    failpoints,
    // Whatever a crash left without a record is in one of them.
    dirtyBackends: ["content", ...backends.keys().map((name) => `snapshot/${name}`)],
  });
  await settleCommits(ctx, state, backends, options.settleTimeoutMs ?? settleTimeoutMsDefault);
  await state.updateQuietly(pruneAllNodes);
  const metadata = new SqliteMetadata(ctx, state, backends, options);
  stack.move();
  return metadata;
}

class SqliteMetadata implements Metadata {
  readonly namespaces: SqliteNamespaceStore;
  readonly containers: NamespacedContainerStore;
  readonly images: NamespacedImageStore;
  readonly sandboxes: NamespacedSandboxStore;
  readonly leases: NamespacedLeaseManager;
  readonly content: NamespacedContentStore;
  readonly snapshotters: ReadonlyMap<string, NamespacedSnapshotter>;
  readonly collector: MetadataCollector;
  readonly #state: MetadataState;

  constructor(
    ctx: Context,
    state: MetadataState,
    backends: ReadonlyMap<string, Snapshotter>,
    options: MetadataOptions,
  ) {
    this.#state = state;
    this.content = new NamespacedContentStore(
      state,
      options.content,
      options.contentSharingPolicy ?? "shared",
    );
    this.snapshotters = new Map(
      backends
        .entries()
        .map(([name, backend]) => [name, new NamespacedSnapshotter(state, name, backend)]),
    );
    const sweeps = new Map<string, Sweep>([["content", (c) => this.content.sweep(c)]]);
    for (const [name, snapshotter] of this.snapshotters) {
      sweeps.set(`snapshot/${name}`, (c) => snapshotter.sweep(c));
    }
    this.collector = new MetadataCollector(ctx, state, sweeps);
    this.namespaces = new SqliteNamespaceStore(state);
    this.containers = new NamespacedContainerStore(state);
    this.images = new NamespacedImageStore(state, this.collector);
    this.sandboxes = new NamespacedSandboxStore(state);
    this.leases = new NamespacedLeaseManager(state, this.collector);
  }

  onMutation(listener: MutationListener): Disposable {
    return this.#state.onMutation(listener);
  }

  registerResources(collector: ResourceCollector): Disposable {
    return this.collector.register(collector);
  }

  async close(): Promise<void> {
    await this.collector.idle();
    await this.#state.db.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
