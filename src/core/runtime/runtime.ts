import type { Mount } from "#core/mount/mount.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import type { UnixNanos } from "#pkg/time.ts";

export type TaskStatus = "unknown" | "created" | "running" | "stopped" | "paused" | "pausing";

/** Paths or URIs of a process's streams; an empty one is not connected. */
export interface TaskIo {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

export interface ProcessState extends TaskIo {
  /** The container for its first process, else the exec id. */
  readonly id: string;
  readonly pid: number;
  readonly status: TaskStatus;
  readonly exitStatus: number;
  readonly exitedAt: UnixNanos | undefined;
}

export interface ProcessInfo {
  readonly pid: number;
  /** What the shim adds: for an exec of runc's, its id. */
  readonly info: Any | undefined;
}

export interface ProcessExit {
  readonly pid: number;
  readonly exitStatus: number;
  readonly exitedAt: UnixNanos;
}

export interface CreateTaskOptions {
  /** The OCI spec as the container's record holds it. */
  readonly spec: Any | undefined;
  readonly rootfs: readonly Mount[];
  readonly io: TaskIo;
  /** Name of the runtime (`io.containerd.runc.v2`) or an absolute path of a shim. */
  readonly runtime: string;
  readonly runtimeOptions: Any | undefined;
  /** Task options of the create call (runc's `Options`), over the container's. */
  readonly taskOptions: Any | undefined;
  readonly sandbox: SandboxRef | undefined;
}

/** The sandbox whose shim a task joins. */
export interface SandboxRef {
  readonly id: string;
  /**
   * Where its tasks are served, `ttrpc+unix:///path`, as its sandboxer says; empty where that is
   * known from its shim.
   */
  readonly address: string;
  /** Of the task service there. */
  readonly version: number;
}

/**
 * A container's processes, wherever their shim runs. Every method may throw `not-found` once the
 * task is gone.
 */
export interface Task {
  readonly id: string;
  readonly namespace: string;
  /** Pid of the first process. */
  pid(ctx: Context): Promise<number>;
  /** `execId` empty means the first process, here and below. */
  state(ctx: Context, execId: string): Promise<ProcessState>;
  start(ctx: Context, execId: string): Promise<number>;
  exec(ctx: Context, execId: string, spec: Any, io: TaskIo): Promise<void>;
  kill(
    ctx: Context,
    options: { readonly execId: string; readonly signal: number; readonly all: boolean },
  ): Promise<void>;
  /**
   * Resolves with the exit, at once when it has exited already; survives a restart of the daemon.
   */
  wait(ctx: Context, execId: string): Promise<Omit<ProcessExit, "pid">>;
  deleteProcess(ctx: Context, execId: string): Promise<ProcessExit>;
  pause(ctx: Context): Promise<void>;
  resume(ctx: Context): Promise<void>;
  pids(ctx: Context): Promise<readonly ProcessInfo[]>;
  resizePty(
    ctx: Context,
    size: { readonly execId: string; readonly width: number; readonly height: number },
  ): Promise<void>;
  closeStdin(ctx: Context, execId: string): Promise<void>;
  update(
    ctx: Context,
    resources: Any | undefined,
    annotations: Readonly<Record<string, string>>,
  ): Promise<void>;
  stats(ctx: Context): Promise<Any>;
}

/** Makes tasks and keeps the ones that run; finds them again after a restart of the daemon. */
export interface TaskRuntime {
  /** Throws `already-exists`; on failure nothing of the task is left. */
  create(ctx: Context, id: string, options: CreateTaskOptions): Promise<Task>;
  /** Throws `not-found`. */
  get(ctx: Context, id: string): Promise<Task>;
  /** Tasks of `ctx.namespace`; of all namespaces when `all`. */
  list(ctx: Context, options?: { readonly all?: boolean }): Promise<readonly Task[]>;
  /**
   * Deletes the stopped task, its bundle and, when it was the last, its shim. Throws
   * `failed-precondition`.
   */
  delete(ctx: Context, id: string): Promise<ProcessExit>;
}

/** Of a container's record: an empty id is none. */
export function sandboxRef(
  id: string,
  { address, version }: { readonly address: string; readonly version: number } = {
    address: "",
    version: 0,
  },
): SandboxRef | undefined {
  return id === "" ? undefined : { id, address, version };
}
