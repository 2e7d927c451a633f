import type { Collector } from "#core/gc/gc.ts";
import type { Lease, LeaseManager, LeaseResource } from "#core/leases/leases.ts";
import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";

/** The leases of the database; a synchronous delete asks the scheduler, so that its thresholds count from there. */
export class ScheduledLeaseManager implements LeaseManager {
  readonly #leases: LeaseManager;
  readonly #scheduler: Collector;

  constructor(leases: LeaseManager, scheduler: Collector) {
    this.#leases = leases;
    this.#scheduler = scheduler;
  }

  create(ctx: Context, lease: { readonly id: string; readonly labels: Labels }): Promise<Lease> {
    return this.#leases.create(ctx, lease);
  }

  async delete(ctx: Context, id: string, options: { readonly sync?: boolean } = {}): Promise<void> {
    await this.#leases.delete(ctx, id);
    if (options.sync) await this.#scheduler.scheduleAndWait(ctx);
  }

  list(ctx: Context, filters?: readonly string[]): Promise<readonly Lease[]> {
    return this.#leases.list(ctx, filters);
  }

  addResource(ctx: Context, leaseId: string, resource: LeaseResource): Promise<void> {
    return this.#leases.addResource(ctx, leaseId, resource);
  }

  deleteResource(ctx: Context, leaseId: string, resource: LeaseResource): Promise<void> {
    return this.#leases.deleteResource(ctx, leaseId, resource);
  }

  listResources(ctx: Context, leaseId: string): Promise<readonly LeaseResource[]> {
    return this.#leases.listResources(ctx, leaseId);
  }
}
