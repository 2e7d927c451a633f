import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import type { ContainerStore } from "#core/containers/containers.ts";
import { CodedError } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { containerFromWire, containerToWire } from "#plugins/services/containers/convert.ts";

export function containersService(containers: ContainerStore): Service {
  return serve(Containers, {
    async get(ctx, { id }) {
      return { container: containerToWire(await containers.get(ctx, id)) };
    },
    async list(ctx, { filters }) {
      return { containers: (await containers.list(ctx, filters)).map(containerToWire) };
    },
    async *listStream(ctx, { filters }) {
      for (const container of await containers.list(ctx, filters)) {
        yield { container: containerToWire(container) };
      }
    },
    async create(ctx, { container }) {
      const created = await containers.create(ctx, containerFromWire(container));
      return { container: containerToWire(created) };
    },
    async update(ctx, { container, updateMask }) {
      const given = containerFromWire(container);
      if (given.id === "") throw new CodedError("invalid-argument", "Container.ID required");
      const updated = await containers.update(ctx, given, updateMask?.paths);
      return { container: containerToWire(updated) };
    },
    async delete(ctx, { id }) {
      await containers.delete(ctx, id);
      return {};
    },
  });
}
