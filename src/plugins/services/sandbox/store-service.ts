import { Store } from "#api/services/sandbox/v1/sandbox_pb.ts";
import { sandboxMessage, sandboxOf } from "#core/sandbox/convert.ts";
import type { SandboxStore } from "#core/sandbox/sandbox.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";

/** containerd.services.sandbox.v1.Store */
export function sandboxStoreService(sandboxes: SandboxStore): Service {
  return serve(Store, {
    async create(ctx, { sandbox }) {
      return { sandbox: sandboxMessage(await sandboxes.create(ctx, sandboxOf(sandbox))) };
    },
    async update(ctx, { sandbox, fields }) {
      return { sandbox: sandboxMessage(await sandboxes.update(ctx, sandboxOf(sandbox), fields)) };
    },
    async get(ctx, { sandboxId }) {
      return { sandbox: sandboxMessage(await sandboxes.get(ctx, sandboxId)) };
    },
    async list(ctx, { filters }) {
      return { list: (await sandboxes.list(ctx, filters)).map(sandboxMessage) };
    },
    async delete(ctx, { sandboxId }) {
      await sandboxes.delete(ctx, sandboxId);
      return {};
    },
  });
}
