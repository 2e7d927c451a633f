import type { Context } from "#pkg/context.ts";

export interface CollectionStats {
  /** Wall time the collection took, removal of backends included. */
  readonly elapsedMs: number;
}

/** Removes what nothing refers to. Concurrent requests share one run that starts after they asked. */
export interface Collector {
  /** Runs a whole collection and waits for it. */
  scheduleAndWait(ctx: Context): Promise<CollectionStats>;
}
