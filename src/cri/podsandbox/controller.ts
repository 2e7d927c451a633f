import type { Task } from "#core/runtime/runtime.ts";
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
import { assertSandboxConfig } from "#cri/podsandbox/assert-config.ts";
import { endTask, killTask } from "#cri/podsandbox/end-task.ts";
import type { PodSandboxParts } from "#cri/podsandbox/parts.ts";
import { PodSandbox, stateOf } from "#cri/podsandbox/pod-sandbox.ts";
import { sandboxInfo } from "#cri/podsandbox/sandbox-info.ts";
import { startSandbox } from "#cri/podsandbox/start-sandbox.ts";
import { watchExit } from "#cri/podsandbox/watch-exit.ts";
import type { SandboxMetadata } from "#cri/sandbox-metadata.ts";
import {
  metadataExtension,
  metadataOfOptions,
  parseSandboxMetadata,
} from "#cri/sandbox-metadata-convert.ts";
import { type Context, requireNamespace } from "#pkg/context.ts";
import {
  alreadyExists,
  CodedError,
  failedPrecondition,
  invalidArgument,
  isNotFound,
  notFound,
  wrap,
} from "#pkg/errors.ts";
import { assertIdentifier } from "#pkg/identifier.ts";
import { quote } from "#pkg/log-format.ts";
import { hostPlatform } from "#pkg/platform.ts";
import { TaskGroup } from "#pkg/task-group.ts";
import { nowNanos } from "#pkg/time.ts";
import { settledOrAborted } from "#pkg/until.ts";

/**
 * Pods: each a container that does nothing but hold the namespaces that the pod's other containers
 * join.
 *
 * A sandbox is created from CRI's metadata, in its record's extension `metadata`, or from a
 * `PodSandboxConfig` in the options. Its files lie by its id alone, so that an id is one sandbox's,
 * whatever the namespaces. Words of errors are upstream's. Disposing ends the watching; pods go on,
 * and are found again.
 */
export class PodSandboxController implements SandboxController, AsyncDisposable {
  readonly #parts: PodSandboxParts;
  readonly #sandboxes = new Map<string, PodSandbox>();
  readonly #watches: TaskGroup;

  constructor(parts: PodSandboxParts) {
    this.#parts = parts;
    this.#watches = new TaskGroup(parts.lifetime.signal);
  }

  async create(
    ctx: Context,
    sandbox: SandboxInput,
    options: CreateSandboxOptions = {},
  ): Promise<void> {
    const { id } = sandbox;
    assertSandboxId(id);
    const metadata = metadataOf(sandbox, options);
    assertSandboxConfig(metadata);
    if (this.#sandboxes.has(id)) throw alreadyExists(`sandbox ${quote(id)}`);
    const runtimeOptions = sandbox.runtime.options;
    this.#sandboxes.set(id, new PodSandbox(ctx, { metadata, runtimeOptions }));
  }

  async start(ctx: Context, id: string): Promise<SandboxInstance> {
    const sandbox = this.#find(ctx, id);
    if (!sandbox) throw notFound(`unable to find pod sandbox with id ${quote(id)}`);
    if (sandbox.phase !== "created") throw alreadyExists(`task of sandbox ${quote(id)}`);
    if (sandbox.hasContainer || sandbox.removal) {
      throw failedPrecondition(`sandbox ${quote(id)} is not wholly removed`);
    }
    sandbox.phase = "starting";
    try {
      const { instance, task } = await startSandbox(ctx, this.#parts, sandbox);
      this.#watch(sandbox, task);
      return instance;
    } catch (error) {
      sandbox.phase = "created";
      throw error;
    }
  }

  async platform(_ctx: Context, _id: string): Promise<SandboxPlatform> {
    const { os, architecture, variant = "" } = hostPlatform();
    return { os, architecture, variant };
  }

  async stop(ctx: Context, id: string): Promise<void> {
    const sandbox = this.#find(ctx, id);
    if (!sandbox) throw notFound(`sandbox ${quote(id)}`);
    assertNotStarting(sandbox);
    if (!sandbox.hasContainer) return;
    await this.#end(ctx, sandbox);
    try {
      await this.#parts.files.release(id);
    } catch (error) {
      throw wrap("failed to cleanup sandbox files", error);
    }
  }

  async wait(ctx: Context, id: string): Promise<SandboxExit> {
    const sandbox = this.#find(ctx, id);
    // Without a class, as upstream.
    if (!sandbox) throw new CodedError("unknown", `failed to get exit channel. ${quote(id)}`);
    try {
      return await settledOrAborted(sandbox.ended, ctx);
    } catch (error) {
      throw wrap("failed to wait pod sandbox", error);
    }
  }

  async status(
    ctx: Context,
    id: string,
    { verbose = false }: { readonly verbose?: boolean } = {},
  ): Promise<SandboxStatus> {
    const sandbox = this.#find(ctx, id);
    if (!sandbox) throw notFound(`unable to find sandbox ${quote(id)}`);
    return {
      sandboxId: id,
      pid: sandbox.pid,
      state: stateOf(sandbox),
      info: verbose ? await sandboxInfo(ctx, this.#parts, sandbox) : {},
      createdAt: sandbox.createdAt,
      exitedAt: sandbox.exit?.exitedAt,
      extra: undefined,
      address: "",
      version: 0,
    };
  }

  /** One that is not there is no failure. */
  async shutdown(ctx: Context, id: string): Promise<void> {
    const sandbox = this.#find(ctx, id);
    if (!sandbox) return;
    assertNotStarting(sandbox);
    // Goes on when the caller has left: half a removal is no use to anybody.
    const own = this.#own(sandbox).withTimeout(this.#parts.cleanupTimeoutMs);
    sandbox.removal ??= this.#remove(own, sandbox).finally(() => {
      sandbox.removal = undefined;
    });
    sandbox.removal.catch(() => {}); // -- told to whoever still waits
    await settledOrAborted(sandbox.removal, ctx);
  }

  async metrics(ctx: Context, id: string): Promise<SandboxMetric> {
    const sandbox = this.#find(ctx, id);
    if (!sandbox) throw notFound(`sandbox ${quote(id)} not found`);
    const { cgroupParent } = sandbox.metadata.config;
    if (cgroupParent === "") {
      throw new CodedError("unknown", `sandbox ${quote(id)} has no cgroup parent`);
    }
    // Late: the message types cost time at a start.
    const { podMetrics } = await import("#cri/podsandbox/metrics-convert.ts");
    return { id, timestamp: nowNanos(), data: podMetrics(cgroupParent) };
  }

  /** Nothing that a pause container could be told. */
  async update(): Promise<void> {}

  /** Takes over what another life of the daemon has made; with its task where that still runs. */
  adopt(sandbox: PodSandbox, task: Task | undefined): void {
    const { id, namespace } = sandbox;
    if (this.#sandboxes.has(id)) {
      this.#parts.lifetime.logger.error("two sandboxes have one id", { id, namespace });
      return;
    }
    this.#sandboxes.set(id, sandbox);
    if (task) this.#watch(sandbox, task);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watches[Symbol.asyncDispose]();
  }

  #find(ctx: Context, id: string): PodSandbox | undefined {
    const sandbox = this.#sandboxes.get(id);
    return sandbox?.namespace === requireNamespace(ctx) ? sandbox : undefined;
  }

  /** The daemon's own context: what begins in it outlives the call. */
  #own({ namespace }: PodSandbox): Context {
    return this.#parts.lifetime.withNamespace(namespace);
  }

  #watch(sandbox: PodSandbox, task: Task): void {
    this.#watches.go((signal) =>
      watchExit(this.#own(sandbox).withSignal(signal), this.#parts.runtime, { sandbox, task }),
    );
  }

  async #end(ctx: Context, sandbox: PodSandbox): Promise<void> {
    const { id, phase } = sandbox;
    const { runtime } = this.#parts;
    try {
      if (phase === "ready") {
        await killTask(ctx, runtime, id);
        // Its task is deleted by then.
        await settledOrAborted(sandbox.ended, ctx);
      } else if (phase === "created" && sandbox.hasContainer) {
        // Nobody watches one whose task could not be looked at, or not be undone.
        sandbox.end(await endTask(ctx, runtime, id));
      }
    } catch (error) {
      const state = quote(stateOf(sandbox));
      throw wrap(`failed to stop sandbox container ${quote(id)} in ${state} state`, error);
    }
  }

  /** The container's record goes last: it is what a later try, or another daemon, finds. */
  async #remove(ctx: Context, sandbox: PodSandbox): Promise<void> {
    const { id } = sandbox;
    const { files, failpoints } = this.#parts;
    await this.#end(ctx, sandbox);
    await this.#endRestarted(ctx, sandbox);
    try {
      await files.remove(id);
    } catch (error) {
      throw wrap("failed to remove sandbox directories", error);
    }
    failpoints.hit("pod.files-removed");
    if (sandbox.hasContainer) {
      try {
        await this.#removeContainer(ctx, id);
      } catch (error) {
        throw wrap(`failed to delete sandbox container ${quote(id)}`, error);
      }
      sandbox.hasContainer = false;
    }
    this.#sandboxes.delete(id);
    // For who waits for one that has never run.
    sandbox.end();
  }

  /** Any client may start a task in the container of a pod that has ended. */
  async #endRestarted(ctx: Context, { id, hasContainer }: PodSandbox): Promise<void> {
    if (!hasContainer) return;
    try {
      await endTask(ctx, this.#parts.runtime, id);
    } catch (error) {
      throw wrap(`failed to stop sandbox container ${quote(id)}`, error);
    }
  }

  async #removeContainer(ctx: Context, id: string): Promise<void> {
    const { containers, snapshotters } = this.#parts;
    try {
      const { snapshotter, snapshotKey } = await containers.get(ctx, id);
      await snapshotters
        .get(snapshotter)
        ?.remove(ctx, snapshotKey)
        .catch((error: unknown) => {
          if (!isNotFound(error)) throw error;
        });
      await containers.delete(ctx, id);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

function assertSandboxId(id: string): void {
  try {
    // It becomes the name of directories.
    assertIdentifier(id);
  } catch (error) {
    throw wrap("invalid sandbox ID", error);
  }
}

function assertNotStarting({ id, phase }: PodSandbox): void {
  if (phase === "starting") throw failedPrecondition(`sandbox ${quote(id)} is being started`);
}

function metadataOf(
  { id, extensions }: SandboxInput,
  { options, netnsPath = "" }: CreateSandboxOptions,
): SandboxMetadata {
  const extension = extensions[metadataExtension];
  if (!extension && options) return metadataOfOptions(id, options, { netnsPath });
  if (!extension) {
    throw notFound(`failed to get sandbox ${quote(id)} metadata: extension ${metadataExtension}`);
  }
  const metadata = parseSandboxMetadata(extension);
  if (metadata.id === id) return metadata;
  const given = quote(metadata.id.slice(0, 100));
  throw invalidArgument(`sandbox metadata: ID ${given} is not that of sandbox ${quote(id)}`);
}
