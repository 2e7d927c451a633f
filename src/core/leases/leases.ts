import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

export interface Lease {
  readonly id: string;
  readonly createdAt: UnixNanos;
  readonly labels: Labels;
}

/** `type` is `content`, `ingests`, `images` or `snapshots/<snapshotter>`; `id` the digest, ref, name or key. */
export interface LeaseResource {
  readonly type: string;
  readonly id: string;
}

/** Keeps resources from collection for as long as the lease lives. */
export interface LeaseManager {
  /** An empty id is filled with a random one. Throws `already-exists`. */
  create(ctx: Context, lease: { readonly id: string; readonly labels: Labels }): Promise<Lease>;
  /** Throws `not-found`. `sync` collects before it resolves. */
  delete(ctx: Context, id: string, options?: { readonly sync?: boolean }): Promise<void>;
  list(ctx: Context, filters?: readonly string[]): Promise<readonly Lease[]>;
  /** Throws `not-found` for the lease, `not-implemented` for an unknown type. */
  addResource(ctx: Context, leaseId: string, resource: LeaseResource): Promise<void>;
  deleteResource(ctx: Context, leaseId: string, resource: LeaseResource): Promise<void>;
  listResources(ctx: Context, leaseId: string): Promise<readonly LeaseResource[]>;
}
