import { Sandbox } from "#api/runtime/sandbox/v1/sandbox_pb.ts";
import { mountMessage } from "#core/mount/convert.ts";
import { anyOf, metricOf, platformOf, sandboxMessage, timeOf } from "#core/sandbox/convert.ts";
import type {
  CreateSandboxOptions,
  SandboxExit,
  SandboxInput,
  SandboxInstance,
  SandboxMetric,
  SandboxPlatform,
  SandboxStatus,
} from "#core/sandbox/sandbox.ts";
import type { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";

/** The sandbox of one shim: its `containerd.runtime.sandbox.v1.Sandbox`, over ttrpc or gRPC. */
export class ShimSandboxProxy {
  readonly #client: Client<typeof Sandbox>;
  readonly #sandboxId: string;

  constructor(transport: Transport, sandboxId: string) {
    this.#client = createClient(Sandbox, transport);
    this.#sandboxId = sandboxId;
  }

  async create(
    ctx: Context,
    bundlePath: string,
    { rootfs = [], options, netnsPath = "", annotations = {} }: CreateSandboxOptions,
  ): Promise<void> {
    await this.#client.createSandbox(ctx, {
      sandboxId: this.#sandboxId,
      bundlePath,
      rootfs: rootfs.map(mountMessage),
      ...(options && { options: { ...options } }),
      netnsPath,
      annotations: { ...annotations },
    });
  }

  async start(ctx: Context): Promise<Pick<SandboxInstance, "pid" | "createdAt" | "spec">> {
    const { pid, createdAt, spec } = await this.#client.startSandbox(ctx, this.#named());
    return { pid, createdAt: timeOf(createdAt), spec: anyOf(spec) };
  }

  async platform(ctx: Context): Promise<SandboxPlatform> {
    const { platform } = await this.#client.platform(ctx, this.#named());
    return platformOf(platform);
  }

  async stop(ctx: Context, timeoutSecs: number): Promise<void> {
    await this.#client.stopSandbox(ctx, { ...this.#named(), timeoutSecs });
  }

  async wait(ctx: Context): Promise<SandboxExit> {
    const { exitStatus, exitedAt } = await this.#client.waitSandbox(ctx, this.#named());
    return { exitStatus, exitedAt: timeOf(exitedAt) };
  }

  async status(
    ctx: Context,
    options: { readonly verbose: boolean },
  ): Promise<Omit<SandboxStatus, "address" | "version">> {
    const answer = await this.#client.sandboxStatus(ctx, { ...this.#named(), ...options });
    const { sandboxId, pid, state, info, createdAt, exitedAt, extra } = answer;
    return {
      sandboxId,
      pid,
      state,
      info,
      createdAt: timeOf(createdAt),
      exitedAt: timeOf(exitedAt),
      extra: anyOf(extra),
    };
  }

  async shutdown(ctx: Context): Promise<void> {
    await this.#client.shutdownSandbox(ctx, this.#named());
  }

  async metrics(ctx: Context): Promise<SandboxMetric | undefined> {
    const { metrics } = await this.#client.sandboxMetrics(ctx, this.#named());
    return metricOf(metrics);
  }

  async update(ctx: Context, sandbox: SandboxInput, fields: readonly string[]): Promise<void> {
    await this.#client.updateSandbox(ctx, {
      ...this.#named(),
      sandbox: sandboxMessage(sandbox),
      fields: [...fields],
    });
  }

  #named(): { sandboxId: string } {
    return { sandboxId: this.#sandboxId };
  }
}
