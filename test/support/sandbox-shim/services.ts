import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Sandbox } from "#api/runtime/sandbox/v1/sandbox_pb.ts";
import { Task } from "#api/runtime/task/v3/shim_pb.ts";
import { Status } from "#api/types/task/task_pb.ts";
import { failedPrecondition, notFound } from "#pkg/errors.ts";
import { type Handlers, type Service, serve } from "#pkg/rpc/service.ts";
import { nanosToTimestamp, nowNanos } from "#pkg/time.ts";

type Exit = { readonly exitStatus: number; readonly exitedAt: { seconds: bigint; nanos: number } };

/** A process that is only told of; its pid is the shim's. */
class PretendedProcess {
  state: "created" | "running" | "stopped" = "created";
  readonly createdAt = nanosToTimestamp(nowNanos());
  exit: Exit | undefined;
  readonly #ended = Promise.withResolvers<Exit>();

  end(exitStatus: number): void {
    if (this.exit) return;
    this.exit = { exitStatus, exitedAt: nanosToTimestamp(nowNanos()) };
    this.state = "stopped";
    this.#ended.resolve(this.exit);
  }

  ended(): Promise<Exit> {
    return this.#ended.promise;
  }
}

const statuses = {
  created: Status.CREATED,
  running: Status.RUNNING,
  stopped: Status.STOPPED,
} as const;

/**
 * What a shim serves that has sandboxes of its own: one sandbox, and tasks that join it. No process
 * is started; what was asked for is written into the bundles.
 */
export class SandboxShim {
  /** Resolves when the sandbox was shut down. */
  readonly over: Promise<void>;
  readonly #over = Promise.withResolvers<void>();
  readonly #tasks = new Map<string, PretendedProcess>();
  readonly #taskShutdowns: string[] = [];
  #id = "";
  #sandbox: PretendedProcess | undefined;
  #labels: Readonly<Record<string, string>> = {};

  constructor() {
    this.over = this.#over.promise;
  }

  services(): readonly Service[] {
    return [serve(Sandbox, this.#sandboxHandlers()), serve(Task, this.#taskHandlers())];
  }

  #sandboxHandlers(): Handlers<typeof Sandbox> {
    return {
      createSandbox: async (_ctx, { sandboxId, bundlePath, netnsPath, annotations, options }) => {
        if (annotations["refuse"] === "create") throw failedPrecondition("refused to create");
        const asked = { netnsPath, annotations, options: options?.typeUrl ?? "" };
        await writeFile(join(bundlePath, "asked.json"), JSON.stringify(asked));
        this.#id = sandboxId;
        this.#labels = annotations;
        this.#sandbox = new PretendedProcess();
        return {};
      },
      startSandbox: async (_ctx, { sandboxId }) => {
        const sandbox = this.#the(sandboxId);
        if (this.#labels["refuse"] === "start") throw failedPrecondition("refused to start");
        sandbox.state = "running";
        return { pid: process.pid, createdAt: sandbox.createdAt };
      },
      platform: async (_ctx, { sandboxId }) => {
        this.#the(sandboxId);
        return { platform: { os: "linux", architecture: "sparc", variant: "v9" } };
      },
      stopSandbox: async (_ctx, { sandboxId, timeoutSecs }) => {
        this.#the(sandboxId).end(timeoutSecs);
        return {};
      },
      waitSandbox: async (_ctx, { sandboxId }) => this.#the(sandboxId).ended(),
      sandboxStatus: async (_ctx, { sandboxId, verbose }) => {
        const sandbox = this.#the(sandboxId);
        return {
          sandboxId,
          pid: process.pid,
          state: sandbox.state,
          info: {
            ...(verbose && { labels: JSON.stringify(this.#labels) }),
            shutdowns: this.#taskShutdowns.join(","),
          },
          createdAt: sandbox.createdAt,
          ...(sandbox.exit && { exitedAt: sandbox.exit.exitedAt }),
        };
      },
      pingSandbox: async () => ({}),
      shutdownSandbox: async (ctx) => {
        if ("mute" in this.#labels) await once(ctx.signal, "abort");
        this.#sandbox?.end(0);
        this.#sandbox = undefined;
        this.#over.resolve();
        return {};
      },
      sandboxMetrics: async (_ctx, { sandboxId }) => {
        this.#the(sandboxId);
        const timestamp = { seconds: 7n, nanos: 0 };
        return { metrics: { id: sandboxId, timestamp, data: { typeUrl: "metrics" } } };
      },
      updateSandbox: async (_ctx, { sandboxId, sandbox, fields }) => {
        this.#the(sandboxId);
        this.#labels = { ...sandbox?.labels, fields: fields.join(",") };
        return {};
      },
    };
  }

  #taskHandlers(): Handlers<typeof Task> {
    return {
      create: async (_ctx, { id, bundle, rootfs }) => {
        const mounts = rootfs.map(({ type, source, target, options }) => {
          return { type, source, target, options };
        });
        await writeFile(join(bundle, "rootfs.json"), JSON.stringify(mounts));
        if (mounts.some(({ type }) => type === "refused")) {
          throw failedPrecondition("refused to create");
        }
        this.#tasks.set(id, new PretendedProcess());
        return { pid: process.pid };
      },
      start: async (_ctx, { id }) => {
        this.#task(id).state = "running";
        return { pid: process.pid };
      },
      state: async (_ctx, { id }) => {
        const { state, exit } = this.#task(id);
        return { id, pid: process.pid, status: statuses[state], ...exit };
      },
      pids: async (_ctx, { id }) => {
        this.#task(id);
        return { processes: [{ pid: process.pid }] };
      },
      kill: async (_ctx, { id, signal }) => {
        this.#task(id).end(128 + signal);
        return {};
      },
      wait: async (_ctx, { id }) => this.#task(id).ended(),
      delete: async (_ctx, { id }) => {
        const task = this.#task(id);
        if (!task.exit) throw failedPrecondition("the task runs");
        this.#tasks.delete(id);
        return { pid: process.pid, ...task.exit };
      },
      connect: async () => ({ shimPid: process.pid, taskPid: process.pid }),
      // Of a container: the sandbox is ended by its own.
      shutdown: async (_ctx, { id }) => {
        this.#taskShutdowns.push(id);
        if (!this.#sandbox && this.#tasks.size === 0) this.#over.resolve();
        return {};
      },
    };
  }

  #the(id: string): PretendedProcess {
    if (!this.#sandbox || id !== this.#id) throw notFound(`sandbox ${id}`);
    return this.#sandbox;
  }

  #task(id: string): PretendedProcess {
    const task = this.#tasks.get(id);
    if (!task) throw notFound(`container ${id}`);
    return task;
  }
}
