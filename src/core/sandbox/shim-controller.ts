import {
  type Bundle,
  type BundleRoots,
  bundleAt,
  createBundle,
  deleteBundle,
} from "#core/runtime/bundle.ts";
import { runcRuntime } from "#core/runtime/shim-binary.ts";
import type { ShimManager } from "#core/runtime/shim-manager.ts";
import type { ShimRecord } from "#core/runtime/shim-record.ts";
import { ShimSandboxProxy } from "#core/sandbox/runtime-proxy.ts";
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
import { type Context, requireNamespace } from "#pkg/context.ts";
import {
  alreadyExists,
  CodedError,
  hasCode,
  isNotFound,
  notFound,
  notImplemented,
  unavailable,
  wrap,
} from "#pkg/errors.ts";
import { nowNanos } from "#pkg/time.ts";

/**
 * Sandboxes that shims make: one shim for each, started with its bundle, which serves the sandbox
 * and the tasks of the containers that join it.
 *
 * The shims are the manager's, as those of tasks are: found again after a restart, and cleaned up
 * after when they die.
 */
export class ShimSandboxController implements SandboxController {
  readonly #manager: ShimManager;
  readonly #roots: BundleRoots;

  /** `roots` are the controller's own: a task may have the id of a sandbox that is gone. */
  constructor(manager: ShimManager, roots: BundleRoots) {
    this.#manager = manager;
    this.#roots = roots;
  }

  async create(
    ctx: Context,
    sandbox: SandboxInput,
    options: CreateSandboxOptions = {},
  ): Promise<void> {
    const namespace = requireNamespace(ctx);
    const { id, runtime, spec } = sandbox;
    const failed = `failed to create sandbox ${id}`;
    if (this.#manager.records.get(namespace, id)) {
      throw alreadyExists(`sandbox ${id} already running`);
    }
    if (runtime.name === runcRuntime) throw wrap(failed, unserved());
    await using undo = new AsyncDisposableStack();
    const bundle = await createBundle(this.#roots, { namespace, id, spec });
    undo.defer(() => this.#removeBundle(ctx, bundle));
    const record = await this.#startShim(ctx, bundle, sandbox);
    undo.defer(() => this.#endFailed(ctx, record));
    const service = serviceOf(record);
    if (!service) throw wrap(failed, unserved());
    await worded(failed, service.create(ctx, bundle.path, options));
    // No turn of the loop between the two: a loss from here on is cleaned up by the manager.
    if (record.link.isLost) throw wrap(failed, unavailable("its shim is gone"));
    record.phase = "live";
    undo.move();
  }

  async start(ctx: Context, id: string): Promise<SandboxInstance> {
    const record = this.#find(ctx, id);
    // Without a class, as upstream.
    if (!record) throw new CodedError("unknown", `unable to find sandbox "${id}"`);
    try {
      const instance = await this.#service(record).start(ctx);
      return { sandboxId: id, labels: {}, ...instance, ...endpointOf(record) };
    } catch (error) {
      record.phase = "ending";
      await this.#endFailed(ctx, record);
      throw wrap(`failed to start sandbox ${id}`, error);
    }
  }

  async platform(ctx: Context, id: string): Promise<SandboxPlatform> {
    const service = this.#service(this.#get(ctx, id));
    return worded("failed to get sandbox platform", service.platform(ctx));
  }

  async stop(
    ctx: Context,
    id: string,
    { timeoutMs = 0 }: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    const record = this.#find(ctx, id);
    if (!record) return;
    try {
      await this.#service(record).stop(ctx, Math.floor(timeoutMs / 1000));
    } catch (error) {
      if (isNotFound(error) || hasCode(error, "unavailable")) return;
      throw wrap("failed to stop sandbox", error);
    }
  }

  async wait(ctx: Context, id: string): Promise<SandboxExit> {
    const record = this.#get(ctx, id);
    try {
      return await this.#service(record).wait(ctx);
    } catch (error) {
      ctx.throwIfEnded();
      // The shim died first. What cleans up after it finds out how the sandbox ended.
      const isLost = record.link.isLost && record.phase === "live";
      const exit = isLost ? await this.#manager.cleanUp(record) : undefined;
      if (exit) return exit;
      throw wrap(`failed to wait sandbox ${id}`, error);
    }
  }

  async status(
    ctx: Context,
    id: string,
    { verbose = false }: { readonly verbose?: boolean } = {},
  ): Promise<SandboxStatus> {
    const record = this.#find(ctx, id);
    if (!record) return missing(id);
    const asked = this.#service(record).status(ctx, { verbose });
    const status = await worded(`failed to query sandbox ${id} status`, asked);
    return { ...status, ...endpointOf(record) };
  }

  async shutdown(ctx: Context, id: string): Promise<void> {
    const record = this.#get(ctx, id);
    // Its end is wanted, and nothing to clean up after.
    record.phase = "ending";
    try {
      await this.#service(record).shutdown(ctx);
    } catch (error) {
      // Its end may overtake the answer.
      if (!record.link.isLost) {
        record.phase = "live";
        throw wrap("failed to shutdown sandbox", error);
      }
    }
    await this.#manager.forget(record);
  }

  async metrics(ctx: Context, id: string): Promise<SandboxMetric | undefined> {
    return this.#service(this.#get(ctx, id)).metrics(ctx);
  }

  async update(
    ctx: Context,
    id: string,
    sandbox: SandboxInput,
    fields: readonly string[] = [],
  ): Promise<void> {
    const service = this.#service(this.#get(ctx, id));
    await worded(`failed to update sandbox ${id}`, service.update(ctx, sandbox, fields));
  }

  /** The manager's records are those of tasks as well, the pods' of another controller among them. */
  #find(ctx: Context, id: string): ShimRecord | undefined {
    const namespace = requireNamespace(ctx);
    const record = this.#manager.records.get(namespace, id);
    if (!record || record.phase === "creating") return undefined;
    const isOwn = record.bundle.path === bundleAt(this.#roots, namespace, id).path;
    return isOwn ? record : undefined;
  }

  #get(ctx: Context, id: string): ShimRecord {
    const record = this.#find(ctx, id);
    if (!record) throw notFound(`sandbox ${id}`);
    return record;
  }

  #service(record: ShimRecord): ShimSandboxProxy {
    const service = serviceOf(record);
    if (!service) throw wrap(`sandbox ${record.id}`, unserved());
    return service;
  }

  async #startShim(
    ctx: Context,
    bundle: Bundle,
    { runtime, spec }: SandboxInput,
  ): Promise<ShimRecord> {
    const { name, options } = runtime;
    const request = { runtime: name, options, spec, sandbox: undefined };
    const started = this.#manager.start(ctx, bundle, request);
    return worded(`failed to start new shim for sandbox ${bundle.id}`, started);
  }

  /** Ends the shim of a sandbox that did not come to be; its command does where the shim cannot. */
  async #endFailed(ctx: Context, record: ShimRecord): Promise<void> {
    const { timeouts } = this.#manager.options;
    const own = ctx.detached({ timeoutMs: timeouts.cleanup });
    try {
      await this.#service(record).shutdown(own);
    } catch (error) {
      own.logger.error("failed to shutdown sandbox", { sandboxID: record.id, error });
      // A shim that only knows tasks ends when it has none; of one that does not answer no time is left.
      await record.link.shutdown(own).catch((failure: unknown) => {
        own.logger.warn("failed to shutdown shim", { sandboxID: record.id, error: failure });
      });
      const late = ctx.detached({ timeoutMs: timeouts.cleanup });
      await record.command.delete(late, record.bundle).catch((failure: unknown) => {
        late.logger.error("failed to delete shim", { sandboxID: record.id, error: failure });
      });
    }
    await this.#manager.forget(record);
  }

  async #removeBundle(ctx: Context, bundle: Bundle): Promise<void> {
    try {
      await deleteBundle(bundle, this.#manager.options.unmount);
    } catch (error) {
      ctx.logger.error("failed to delete bundle", { id: bundle.id, error });
    }
  }
}

function serviceOf({ link, id }: ShimRecord): ShimSandboxProxy | undefined {
  return link.services && new ShimSandboxProxy(link.services, id);
}

function endpointOf({ link }: ShimRecord): { readonly address: string; readonly version: number } {
  const { protocol, address, version } = link.bootstrap;
  return { address: `${protocol}+${address}`, version };
}

function missing(id: string): SandboxStatus {
  return {
    sandboxId: id,
    pid: 0,
    state: "",
    info: {},
    createdAt: undefined,
    exitedAt: nowNanos(),
    extra: undefined,
    address: "",
    version: 0,
  };
}

/** What a shim answers that serves tasks alone, as runc's does. */
function unserved(): CodedError {
  return notImplemented("service containerd.runtime.sandbox.v1.Sandbox");
}

async function worded<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw wrap(what, error);
  }
}
