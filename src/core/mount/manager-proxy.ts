import { Mounts } from "#api/services/mounts/v1/mounts_pb.ts";
import { mountMessage } from "#core/mount/convert.ts";
import type { ActivateOptions, Activation, MountManager } from "#core/mount/manager.ts";
import { activationOf } from "#core/mount/manager-convert.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";

/** The mounts of another process's daemon; claims do not reach it. Does not own the connection. */
export class GrpcMountManager implements MountManager {
  readonly #client: Client<typeof Mounts>;

  constructor(transport: Transport) {
    this.#client = createClient(Mounts, transport);
  }

  async activate(
    ctx: Context,
    name: string,
    mounts: readonly Mount[],
    { labels = {}, temporary = false }: ActivateOptions = {},
  ): Promise<Activation> {
    const { info } = await this.#client.activate(ctx, {
      name,
      mounts: mounts.map(mountMessage),
      labels: { ...labels },
      temporary,
    });
    return activationOf(info);
  }

  async deactivate(ctx: Context, name: string): Promise<void> {
    await this.#client.deactivate(ctx, { name });
  }

  async info(ctx: Context, name: string): Promise<Activation> {
    return activationOf((await this.#client.info(ctx, { name })).info);
  }

  async list(ctx: Context, filters: readonly string[] = []): Promise<readonly Activation[]> {
    const all: Activation[] = [];
    for await (const { info } of this.#client.list(ctx, { filters: [...filters] })) {
      all.push(activationOf(info));
    }
    return all;
  }
}
