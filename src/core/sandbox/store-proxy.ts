import { Store } from "#api/services/sandbox/v1/sandbox_pb.ts";
import { sandboxMessage, sandboxOf } from "#core/sandbox/convert.ts";
import type { Sandbox, SandboxInput, SandboxStore } from "#core/sandbox/sandbox.ts";
import type { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";

/** The records of another process's daemon. Does not own the connection. */
export class GrpcSandboxStore implements SandboxStore {
  readonly #client: Client<typeof Store>;

  constructor(transport: Transport) {
    this.#client = createClient(Store, transport);
  }

  async create(ctx: Context, given: SandboxInput): Promise<Sandbox> {
    const { sandbox } = await this.#client.create(ctx, { sandbox: sandboxMessage(given) });
    return sandboxOf(sandbox);
  }

  async update(
    ctx: Context,
    given: SandboxInput,
    fields: readonly string[] = [],
  ): Promise<Sandbox> {
    const { sandbox } = await this.#client.update(ctx, {
      sandbox: sandboxMessage(given),
      fields: [...fields],
    });
    return sandboxOf(sandbox);
  }

  async get(ctx: Context, id: string): Promise<Sandbox> {
    const { sandbox } = await this.#client.get(ctx, { sandboxId: id });
    return sandboxOf(sandbox);
  }

  async list(ctx: Context, filters: readonly string[] = []): Promise<readonly Sandbox[]> {
    const { list } = await this.#client.list(ctx, { filters: [...filters] });
    return list.map(sandboxOf);
  }

  async delete(ctx: Context, id: string): Promise<void> {
    await this.#client.delete(ctx, { sandboxId: id });
  }
}
