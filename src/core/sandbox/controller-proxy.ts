import { setTimeout as delay } from "node:timers/promises";
import { Controller } from "#api/services/sandbox/v1/sandbox_pb.ts";
import { mountMessage } from "#core/mount/convert.ts";
import { anyOf, metricOf, platformOf, sandboxMessage, timeOf } from "#core/sandbox/convert.ts";
import type {
  CreateSandboxOptions,
  SandboxController,
  SandboxExit,
  SandboxInput,
  SandboxInstance,
  SandboxMetric,
  SandboxPlatform,
  SandboxStatus,
} from "#core/sandbox/sandbox.ts";
import type { Context } from "#pkg/context.ts";
import { hasCode } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";

const waitRetryMs = { first: 128, most: 4_096 };

/** A controller of another process. Does not own the connection. */
export class GrpcSandboxController implements SandboxController {
  readonly #client: Client<typeof Controller>;
  /** What the other process calls the controller. */
  readonly #sandboxer: string;

  constructor(transport: Transport, sandboxer: string) {
    this.#client = createClient(Controller, transport);
    this.#sandboxer = sandboxer;
  }

  async create(
    ctx: Context,
    sandbox: SandboxInput,
    { rootfs = [], options, netnsPath = "", annotations = {} }: CreateSandboxOptions = {},
  ): Promise<void> {
    await this.#client.create(ctx, {
      ...this.#named(sandbox.id),
      rootfs: rootfs.map(mountMessage),
      ...(options && { options: { ...options } }),
      netnsPath,
      annotations: { ...annotations },
      sandbox: sandboxMessage(sandbox),
    });
  }

  async start(ctx: Context, id: string): Promise<SandboxInstance> {
    const answer = await this.#client.start(ctx, this.#named(id));
    const { pid, labels, address, version } = answer;
    return {
      sandboxId: id,
      pid,
      createdAt: timeOf(answer.createdAt),
      labels,
      address,
      version,
      spec: anyOf(answer.spec),
    };
  }

  async platform(ctx: Context, id: string): Promise<SandboxPlatform> {
    const { platform } = await this.#client.platform(ctx, this.#named(id));
    return platformOf(platform);
  }

  async stop(
    ctx: Context,
    id: string,
    { timeoutMs = 0 }: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    const timeoutSecs = Math.floor(timeoutMs / 1000);
    await this.#client.stop(ctx, { ...this.#named(id), timeoutSecs });
  }

  async wait(ctx: Context, id: string): Promise<SandboxExit> {
    // The sandboxer may restart while its sandboxes go on: only the caller's context ends the wait.
    for (let retryMs = waitRetryMs.first; ; retryMs = Math.min(2 * retryMs, waitRetryMs.most)) {
      try {
        const { exitStatus, exitedAt } = await this.#client.wait(ctx, this.#named(id));
        return { exitStatus, exitedAt: timeOf(exitedAt) };
      } catch (error) {
        if (!hasCode(error, "unavailable")) throw error;
        await delay(retryMs, undefined, { signal: ctx.signal }).catch(() => {
          throw error;
        });
      }
    }
  }

  async status(
    ctx: Context,
    id: string,
    { verbose = false }: { readonly verbose?: boolean } = {},
  ): Promise<SandboxStatus> {
    const answer = await this.#client.status(ctx, { ...this.#named(id), verbose });
    const { pid, state, info, address, version } = answer;
    return {
      sandboxId: id,
      pid,
      state,
      info,
      createdAt: timeOf(answer.createdAt),
      exitedAt: timeOf(answer.exitedAt),
      extra: anyOf(answer.extra),
      address,
      version,
    };
  }

  async shutdown(ctx: Context, id: string): Promise<void> {
    await this.#client.shutdown(ctx, this.#named(id));
  }

  async metrics(ctx: Context, id: string): Promise<SandboxMetric | undefined> {
    const { metrics } = await this.#client.metrics(ctx, this.#named(id));
    return metricOf(metrics);
  }

  async update(
    ctx: Context,
    id: string,
    sandbox: SandboxInput,
    fields: readonly string[] = [],
  ): Promise<void> {
    await this.#client.update(ctx, {
      ...this.#named(id),
      sandbox: sandboxMessage(sandbox),
      fields: [...fields],
    });
  }

  #named(id: string): { sandboxId: string; sandboxer: string } {
    return { sandboxId: id, sandboxer: this.#sandboxer };
  }
}
