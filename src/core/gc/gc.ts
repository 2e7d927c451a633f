import type { Context } from "#pkg/context.ts";

export interface CollectionStats {
  /** Wall time the collection took, removal of backends included. */
  readonly elapsedMs: number;
  /** The part of it during which nothing could be written: the event loop was kept, a slice at a time. */
  readonly pausedMs: number;
}

/** Removes what nothing refers to. Concurrent requests share one run that starts after they asked. */
export interface Collector {
  /** Runs a whole collection and waits for it. */
  scheduleAndWait(ctx: Context): Promise<CollectionStats>;
}

/** Something outside the database that is collected with what is in it: a mount, a stream. */
export interface Resource {
  readonly namespace: string;
  readonly key: string;
}

/** An object that keeps a resource: `kind` is `content`, `image`, `container` or `snapshot/<snapshotter>`. */
export interface ResourceParent {
  readonly kind: string;
  readonly key: string;
}

/**
 * Takes part in collections for one kind of resource.
 *
 * A resource stays while it is active, leased, named by a label `containerd.io/gc.ref.<kind>` of an object that
 * stays, or while one of its parents stays. It cannot keep anything itself.
 */
export interface ResourceCollector {
  /** `mount`, `stream`: the end of the label that names one. */
  readonly kind: string;
  /** Called when a collection starts; what it throws leaves this kind out of that collection. */
  start(ctx: Context): ResourceCollection;
}

/** One collection. All but the last two are called while nothing can be written, so they only look and note. */
export interface ResourceCollection {
  all(): Iterable<Resource>;
  active(): Iterable<Resource>;
  leased(namespace: string, lease: string): Iterable<Resource>;
  parents(resource: Resource): Iterable<ResourceParent>;
  /** Notes that nothing keeps it. */
  remove(resource: Resource): void;
  /** Does what was noted, once the collection is on disk. */
  finish(ctx: Context): Promise<void>;
  /** The collection failed: what was noted is forgotten. */
  cancel(): void;
}
