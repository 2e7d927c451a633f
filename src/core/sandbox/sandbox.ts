import type { Mount } from "#core/mount/mount.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { Labels } from "#pkg/label.ts";
import type { UnixNanos } from "#pkg/time.ts";

/** What is known of a sandbox: an environment that containers share, made by one of the controllers. */
export interface Sandbox {
  readonly id: string;
  readonly labels: Labels;
  /** The shim that runs it. */
  readonly runtime: { readonly name: string; readonly options: Any | undefined };
  /** The OCI runtime spec; some sandboxers have none. */
  readonly spec: Any | undefined;
  /** Name of the controller it belongs to. */
  readonly sandboxer: string;
  readonly createdAt: UnixNanos;
  readonly updatedAt: UnixNanos;
  readonly extensions: Readonly<Record<string, Any>>;
}

/** Fields a caller gives; the store adds the times. */
export type SandboxInput = Omit<Sandbox, "createdAt" | "updatedAt">;

/**
 * Records of sandboxes, by namespace.
 *
 * A record says nothing about a running sandbox: that is its controller's. It is never collected, and what its labels
 * `containerd.io/gc.ref.*` name is kept as long as it is there. A namespace is deleted with the records in it.
 */
export interface SandboxStore {
  /** Throws `already-exists`; `invalid-argument` for a bad id. */
  create(ctx: Context, sandbox: SandboxInput): Promise<Sandbox>;
  /**
   * Replaces the fields `labels`, `extensions`, `spec`, `runtime`, or one key of the first two (`labels.a`). Without
   * fields all of them, and then the runtime's name must be the same. Throws `not-found`, `invalid-argument`.
   */
  update(ctx: Context, sandbox: SandboxInput, fields?: readonly string[]): Promise<Sandbox>;
  /** Throws `not-found`. */
  get(ctx: Context, id: string): Promise<Sandbox>;
  /** By id; filters know `id` and `labels`. */
  list(ctx: Context, filters?: readonly string[]): Promise<readonly Sandbox[]>;
  /** Throws `not-found`. */
  delete(ctx: Context, id: string): Promise<void>;
}

export interface CreateSandboxOptions {
  readonly rootfs?: readonly Mount[];
  /** For the sandboxer alone: CRI gives the pod's configuration here. */
  readonly options?: Any | undefined;
  readonly netnsPath?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface SandboxInstance {
  readonly sandboxId: string;
  readonly pid: number;
  readonly createdAt: UnixNanos | undefined;
  readonly labels: Labels;
  /** Of its task service, as `ttrpc+unix:///path`, for the containers that join it; empty where it has none. */
  readonly address: string;
  /** Of that service. */
  readonly version: number;
  readonly spec: Any | undefined;
}

export interface SandboxStatus {
  readonly sandboxId: string;
  readonly pid: number;
  readonly state: string;
  readonly info: Readonly<Record<string, string>>;
  readonly createdAt: UnixNanos | undefined;
  readonly exitedAt: UnixNanos | undefined;
  readonly extra: Any | undefined;
  readonly address: string;
  readonly version: number;
}

export interface SandboxExit {
  readonly exitStatus: number;
  readonly exitedAt: UnixNanos | undefined;
}

export interface SandboxPlatform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

export interface SandboxMetric {
  readonly id: string;
  readonly timestamp: UnixNanos | undefined;
  readonly data: Any | undefined;
}

/**
 * Runs sandboxes of one kind, in `ctx.namespace`.
 *
 * The order of a life is create, start, stop, shutdown; containers join between start and stop.
 *
 * Of what is not there controllers differ, as upstream's do: that of shims takes a stop for done, tells an
 * empty status that exited now, and refuses a shutdown with `not-found`; that of pods refuses a stop and a
 * status so, and takes a shutdown for done.
 */
export interface SandboxController {
  /** Throws `already-exists`. On failure nothing of it is left. */
  create(ctx: Context, sandbox: SandboxInput, options?: CreateSandboxOptions): Promise<void>;
  /** What a sandbox that fails to start has made is undone: a shim's is shut down, a pod's can be started again. */
  start(ctx: Context, id: string): Promise<SandboxInstance>;
  /** What the specs of its containers have to be made for. */
  platform(ctx: Context, id: string): Promise<SandboxPlatform>;
  /** Ends its processes; one that has ended already is no failure. */
  stop(ctx: Context, id: string, options?: { readonly timeoutMs?: number }): Promise<void>;
  /** Resolves when it has exited; survives a restart of the daemon. */
  wait(ctx: Context, id: string): Promise<SandboxExit>;
  status(
    ctx: Context,
    id: string,
    options?: { readonly verbose?: boolean },
  ): Promise<SandboxStatus>;
  /** Deletes it with all that is left of it. */
  shutdown(ctx: Context, id: string): Promise<void>;
  metrics(ctx: Context, id: string): Promise<SandboxMetric | undefined>;
  /** Tells the running sandbox of changed fields; a pod has nobody to be told. */
  update(
    ctx: Context,
    id: string,
    sandbox: SandboxInput,
    fields?: readonly string[],
  ): Promise<void>;
}
