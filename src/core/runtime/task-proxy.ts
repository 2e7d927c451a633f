import { Task as TaskV2 } from "#api/runtime/task/v2/shim_pb.ts";
import { Task as TaskV3 } from "#api/runtime/task/v3/shim_pb.ts";
import { Status } from "#api/types/task/task_pb.ts";
import type { Mount } from "#core/mount/mount.ts";
import type {
  ProcessExit,
  ProcessInfo,
  ProcessState,
  TaskIo,
  TaskStatus,
} from "#core/runtime/runtime.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";
import { timestampToNanos, type UnixNanos } from "#pkg/time.ts";

export interface ShimCreateRequest {
  readonly bundle: string;
  readonly rootfs: readonly Mount[];
  readonly io: TaskIo;
  readonly options: Any | undefined;
}

/** A process of a shim: `execId` is empty for the container's first one. */
export interface ProcessRef {
  readonly id: string;
  readonly execId: string;
}

interface WireTimestamp {
  readonly seconds: bigint;
  readonly nanos: number;
}

/**
 * The task service of one connected shim, in the daemon's own types. Errors are what the shim said.
 *
 * Versions 2 and 3 differ in the name of the service alone.
 */
export class TaskProxy {
  readonly version: number;
  readonly #client: Client<typeof TaskV3>;

  constructor(transport: Transport, version: number) {
    this.version = version;
    this.#client = clientOf(transport, version);
  }

  async create(ctx: Context, id: string, request: ShimCreateRequest): Promise<number> {
    const { pid } = await this.#client.create(ctx, {
      id,
      bundle: request.bundle,
      rootfs: request.rootfs.map((mount) => ({ ...mount, options: [...mount.options] })),
      ...request.io,
      ...(request.options && { options: request.options }),
    });
    return pid;
  }

  async start(ctx: Context, process: ProcessRef): Promise<number> {
    return (await this.#client.start(ctx, process)).pid;
  }

  async state(ctx: Context, process: ProcessRef): Promise<ProcessState> {
    const state = await this.#client.state(ctx, process);
    return {
      id: process.execId === "" ? process.id : process.execId,
      pid: state.pid,
      status: statusOf(state.status),
      stdin: state.stdin,
      stdout: state.stdout,
      stderr: state.stderr,
      terminal: state.terminal,
      exitStatus: state.exitStatus,
      exitedAt: timeOf(state.exitedAt),
    };
  }

  async delete(ctx: Context, process: ProcessRef): Promise<ProcessExit> {
    const { pid, exitStatus, exitedAt } = await this.#client.delete(ctx, process);
    return { pid, exitStatus, exitedAt: timeOf(exitedAt) ?? 0n };
  }

  async wait(ctx: Context, process: ProcessRef): Promise<Omit<ProcessExit, "pid">> {
    const { exitStatus, exitedAt } = await this.#client.wait(ctx, process);
    return { exitStatus, exitedAt: timeOf(exitedAt) ?? 0n };
  }

  async exec(ctx: Context, process: ProcessRef, spec: Any, io: TaskIo): Promise<void> {
    await this.#client.exec(ctx, { ...process, spec, ...io });
  }

  async kill(
    ctx: Context,
    process: ProcessRef,
    how: { readonly signal: number; readonly all: boolean },
  ): Promise<void> {
    await this.#client.kill(ctx, { ...process, ...how });
  }

  async pids(ctx: Context, id: string): Promise<readonly ProcessInfo[]> {
    const { processes } = await this.#client.pids(ctx, { id });
    return processes.map(({ pid, info }) => ({ pid, info: info && anyOf(info) }));
  }

  async pause(ctx: Context, id: string): Promise<void> {
    await this.#client.pause(ctx, { id });
  }

  async resume(ctx: Context, id: string): Promise<void> {
    await this.#client.resume(ctx, { id });
  }

  async resizePty(
    ctx: Context,
    process: ProcessRef,
    size: { readonly width: number; readonly height: number },
  ): Promise<void> {
    await this.#client.resizePty(ctx, { ...process, ...size });
  }

  async closeStdin(ctx: Context, process: ProcessRef): Promise<void> {
    await this.#client.closeIO(ctx, { ...process, stdin: true });
  }

  async update(
    ctx: Context,
    id: string,
    resources: Any | undefined,
    annotations: Readonly<Record<string, string>>,
  ): Promise<void> {
    await this.#client.update(ctx, { id, annotations, ...(resources && { resources }) });
  }

  /** Throws `not-found` where the shim has nothing to say. */
  async stats(ctx: Context, id: string): Promise<Any> {
    const { stats } = await this.#client.stats(ctx, { id });
    if (!stats) throw new CodedError("not-found", `no stats of task ${id}`);
    return anyOf(stats);
  }

  /** `taskPid` is 0 where the shim does not know the id. */
  async connect(ctx: Context, id: string): Promise<{ shimPid: number; taskPid: number }> {
    const { shimPid, taskPid } = await this.#client.connect(ctx, { id });
    return { shimPid, taskPid };
  }

  /** The shim ends unless it has other tasks. */
  async shutdown(ctx: Context, id: string): Promise<void> {
    await this.#client.shutdown(ctx, { id });
  }
}

function clientOf(transport: Transport, version: number): Client<typeof TaskV3> {
  switch (version) {
    case 3:
      return createClient(TaskV3, transport);
    case 2:
      // -- the same messages under another package name; they are given and read by field
      return createClient(TaskV2, transport) as unknown as Client<typeof TaskV3>;
    default:
      throw new CodedError(
        "unknown",
        `containerd client supports only v2 and v3 TTRPC task client (got ${version})`,
      );
  }
}

function statusOf(status: Status): TaskStatus {
  switch (status) {
    case Status.CREATED:
      return "created";
    case Status.RUNNING:
      return "running";
    case Status.STOPPED:
      return "stopped";
    case Status.PAUSED:
      return "paused";
    case Status.PAUSING:
      return "pausing";
    default:
      return "unknown";
  }
}

function timeOf(timestamp: WireTimestamp | undefined): UnixNanos | undefined {
  return timestamp && timestampToNanos(timestamp);
}

function anyOf({ typeUrl, value }: Any): Any {
  return { typeUrl, value };
}
