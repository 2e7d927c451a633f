import type { ContainerStore } from "#core/containers/containers.ts";
import type { ContentStore } from "#core/content/content.ts";
import type { Collector, ResourceCollector } from "#core/gc/gc.ts";
import type { ImageStore } from "#core/images/images.ts";
import type { LeaseManager } from "#core/leases/leases.ts";
import type { NamespaceStore } from "#core/namespaces/namespaces.ts";
import type { SandboxStore } from "#core/sandbox/sandbox.ts";
import type { Snapshotter } from "#core/snapshots/snapshots.ts";

/**
 * The daemon's one database and the namespaced stores over it.
 *
 * What these stores acknowledge is on disk. Backends (the local content store, the snapshotters) are reached through
 * here only: what they hold and no record names is garbage.
 */
export interface Metadata extends AsyncDisposable {
  readonly namespaces: NamespaceStore;
  readonly containers: ContainerStore;
  readonly images: ImageStore;
  readonly sandboxes: SandboxStore;
  readonly leases: LeaseManager;
  readonly content: ContentStore;
  /** By name (`overlayfs`), namespaced views of the snapshotters that started. */
  readonly snapshotters: ReadonlyMap<string, Snapshotter>;
  readonly collector: Collector;
  /** Called after each change that may have made garbage; the scheduler of collections listens. */
  onMutation(listener: (change: { readonly dirty: boolean }) => void): Disposable;
  /** Collects one more kind of things from now on, until disposed. Throws `already-exists` for a kind that is taken. */
  registerResources(collector: ResourceCollector): Disposable;
  close(): Promise<void>;
}
