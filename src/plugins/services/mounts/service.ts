import { Mounts } from "#api/services/mounts/v1/mounts_pb.ts";
import { mountOf } from "#core/mount/convert.ts";
import type { MountManager } from "#core/mount/manager.ts";
import { activationMessage } from "#core/mount/manager-convert.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";

/** containerd.services.mounts.v1.Mounts; Update is not there, as upstream's manager has none. */
export function mountsService(manager: MountManager): Service {
  return serve(Mounts, {
    async activate(ctx, { name, mounts, labels, temporary }) {
      const options = { labels, temporary };
      const activation = await manager.activate(ctx, name, mounts.map(mountOf), options);
      return { info: activationMessage(activation) };
    },
    async deactivate(ctx, { name }) {
      await manager.deactivate(ctx, name);
      return {};
    },
    async info(ctx, { name }) {
      return { info: activationMessage(await manager.info(ctx, name)) };
    },
    async *list(ctx, { filters }) {
      for (const activation of await manager.list(ctx, filters)) {
        yield { info: activationMessage(activation) };
      }
    },
  });
}
