import { Leases } from "#api/services/leases/v1/leases_pb.ts";
import type { LeaseManager } from "#core/leases/leases.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { leaseToWire, resourceFromWire } from "#plugins/services/leases/convert.ts";

export function leasesService(leases: LeaseManager): Service {
  return serve(Leases, {
    async create(ctx, { id, labels }) {
      return { lease: leaseToWire(await leases.create(ctx, { id, labels })) };
    },
    async delete(ctx, { id, sync }) {
      await leases.delete(ctx, id, { sync });
      return {};
    },
    async list(ctx, { filters }) {
      return { leases: (await leases.list(ctx, filters)).map(leaseToWire) };
    },
    async addResource(ctx, { id, resource }) {
      await leases.addResource(ctx, id, resourceFromWire(resource));
      return {};
    },
    async deleteResource(ctx, { id, resource }) {
      await leases.deleteResource(ctx, id, resourceFromWire(resource));
      return {};
    },
    async listResources(ctx, { id }) {
      const resources = await leases.listResources(ctx, id);
      return { resources: resources.map(({ id, type }) => ({ id, type })) };
    },
  });
}
