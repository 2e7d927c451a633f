import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import type { Any as AnyMessage } from "@bufbuild/protobuf/wkt";
import {
  TaskCreateSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskExitSchema,
  TaskOOMSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  TaskStartSchema,
} from "#api/events/task_pb.ts";
import { Containers } from "#api/services/containers/v1/containers_pb.ts";
import { Events } from "#api/services/events/v1/events_pb.ts";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { Context } from "#pkg/context.ts";
import { codeOf } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { GrpcTransport } from "#pkg/rpc/grpc/transport.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { type Daemon, startDaemon } from "#test/support/daemon.ts";
import { until } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";
import {
  makeRoot,
  processSpec,
  rootfsMounts,
  runtimeSpec,
} from "#test/integration/tasks/harness.ts";
import { goDaemonOf, runtimeOf, type Way } from "./way.ts";

const schemas = [
  TaskCreateSchema,
  TaskStartSchema,
  TaskExitSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  TaskOOMSchema,
] as const;

/** An event of a task with the fields that it has. */
export interface TaskEvent {
  /** Without `/tasks/`. */
  readonly topic: string;
  readonly namespace: string;
  readonly containerId: string;
  readonly id?: string;
  readonly execId?: string;
  readonly pid?: number;
  readonly exitStatus?: number;
  readonly bundle?: string;
  readonly io?: { readonly stdout: string; readonly terminal: boolean };
}

/** A daemon as a client of its gRPC services sees it, with everything it told of tasks. */
export class TaskClient {
  readonly ctx: Context;
  readonly daemon: Daemon;
  readonly room: Room;
  readonly way: Way;
  readonly events: TaskEvent[] = [];
  #connection: Connection;

  private constructor(room: Room, way: Way, daemon: Daemon) {
    this.room = room;
    this.way = way;
    this.daemon = daemon;
    this.ctx = Context.background({ signal: room.signal, namespace: room.namespace });
    this.#connection = connect(this.ctx, daemon, this.events);
  }

  static async start(room: Room, way: Way): Promise<TaskClient> {
    const goProgram = goDaemonOf(way);
    const daemon = await startDaemon(room, {
      kind: way.daemon === "ours" ? "ours" : "go",
      ...(goProgram !== undefined && { goProgram }),
      // NRI's socket has a fixed place, which other daemons of this machine have too.
      config: '[plugins."io.containerd.nri.v1.nri"]\n  disable = true',
    });
    await makeRoot(room);
    const client = new TaskClient(room, way, daemon);
    room.resources.defer(() => client.#connection.close());
    await client.#connection.subscribed;
    return client;
  }

  get tasks(): Client<typeof Tasks> {
    return this.#connection.tasks;
  }

  get containers(): Client<typeof Containers> {
    return this.#connection.containers;
  }

  /** Kills the daemon, starts it again and connects again; events of the meantime are not seen. */
  async restartDaemon(meanwhile: () => Promise<void> = async () => undefined): Promise<void> {
    await this.#connection.close();
    await this.daemon.crash();
    await meanwhile();
    await this.daemon.start();
    this.#connection = connect(this.ctx, this.daemon, this.events);
    await this.#connection.subscribed;
  }

  /** Puts a container on record. */
  async record(
    id: string,
    args: readonly string[],
    options: { readonly terminal?: boolean; readonly runtime?: string } = {},
  ): Promise<void> {
    const spec = runtimeSpec(this.room, id, { args, ...options });
    await this.containers.create(this.ctx, {
      container: {
        id,
        runtime: { name: options.runtime ?? runtimeOf(this.way) },
        spec: {
          typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
          value: Buffer.from(JSON.stringify(spec)),
        },
      },
    });
  }

  /** Records a container and creates its task; its pid. */
  async create(
    id: string,
    args: readonly string[],
    options: {
      readonly terminal?: boolean;
      readonly stdin?: string;
      readonly stdout?: string;
      readonly stderr?: string;
    } = {},
  ): Promise<number> {
    await this.record(id, args, options);
    const created = await this.tasks.create(this.ctx, {
      containerId: id,
      rootfs: rootfsMounts(this.room),
      ...options,
    });
    return created.pid;
  }

  async run(...args: Parameters<TaskClient["create"]>): Promise<number> {
    const pid = await this.create(...args);
    await this.tasks.start(this.ctx, { containerId: args[0] });
    return pid;
  }

  async exec(
    containerId: string,
    execId: string,
    args: readonly string[],
    io: { readonly stdin?: string; readonly stdout?: string; readonly stderr?: string } = {},
  ): Promise<void> {
    await this.tasks.exec(this.ctx, {
      containerId,
      execId,
      ...io,
      spec: {
        typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
        value: Buffer.from(JSON.stringify(processSpec(args))),
      },
    });
  }

  /** Kills the task, waits for it, deletes it and its container; the exit status. */
  async remove(id: string): Promise<number> {
    const exit = this.tasks.wait(this.ctx, { containerId: id });
    await this.tasks.kill(this.ctx, { containerId: id, signal: 9 });
    const { exitStatus } = await exit;
    await this.delete(id);
    return exitStatus;
  }

  /** Deletes a task that has ended, and its container. */
  async delete(id: string): Promise<number> {
    const { exitStatus } = await this.tasks.delete(this.ctx, { containerId: id });
    await this.containers.delete(this.ctx, { id });
    return exitStatus;
  }

  async status(containerId: string, execId = ""): Promise<string> {
    const { process } = await this.tasks.get(this.ctx, { containerId, execId });
    return (
      ["unknown", "created", "running", "stopped", "paused", "pausing"][process?.status ?? 0] ?? "?"
    );
  }

  /** What was told of a container, as lines: topic, then what follows the container's id in it. */
  topics(containerId: string): string[] {
    return this.events
      .filter((event) => event.containerId === containerId)
      .map(({ topic, id, execId, exitStatus }) => {
        const process = execId ?? (id === containerId ? "" : id);
        return [topic, process, topic === "exit" ? exitStatus : ""]
          .filter((word) => word !== "" && word !== undefined)
          .join(" ");
      });
  }

  /**
   * Waits until a deleted task's end is told, and checks what was told of it, as `topics` has it.
   *
   * Go's shim ends at once when its last task is deleted, and may take the delete event with it.
   */
  async assertTold(containerId: string, expected: readonly string[]): Promise<void> {
    const mayLoseDelete = this.way.shim !== "ours";
    const last = mayLoseDelete ? expected.at(-2) : expected.at(-1);
    const isTold = (): boolean => this.topics(containerId).some((line) => line === last);
    try {
      await until("its end is told", isTold, { timeoutMs: 10_000 });
    } catch (error) {
      const told = this.topics(containerId).join(", ");
      throw new Error(`of ${containerId} was told: ${told}`, { cause: error });
    }
    const told = this.topics(containerId);
    const isLost = mayLoseDelete && told.at(-1) === last;
    assert.deepEqual(told, isLost ? expected.slice(0, -1) : expected);
  }
}

interface Connection {
  readonly tasks: Client<typeof Tasks>;
  readonly containers: Client<typeof Containers>;
  readonly subscribed: Promise<void>;
  close(): Promise<void>;
}

function connect(ctx: Context, daemon: Daemon, events: TaskEvent[]): Connection {
  const transport = new GrpcTransport({ path: daemon.address });
  const ending = new AbortController();
  const subscription = ctx.withSignal(ending.signal);
  const client = createClient(Events, transport);
  let isSubscribed = false;
  const reading = (async () => {
    for await (const envelope of client.subscribe(subscription, {})) {
      if (envelope.topic === probe) isSubscribed = true;
      const event = envelope.event && decode(envelope.topic, envelope.namespace, envelope.event);
      if (event) events.push(event);
    }
  })().catch((error: unknown) => {
    if (!ending.signal.aborted && codeOf(error) !== "unavailable") throw error;
  });
  // There is no answer that says a subscription stands: an event that comes back does.
  const subscribed = until("the subscription stands", async () => {
    await client.publish(ctx, { topic: probe, event: { typeUrl: "x", value: new Uint8Array() } });
    return isSubscribed;
  });
  return {
    tasks: createClient(Tasks, transport),
    containers: createClient(Containers, transport),
    subscribed,
    close: async () => {
      ending.abort();
      await reading;
      await transport.close();
    },
  };
}

const probe = "/contract/probe";

function decode(topic: string, namespace: string, event: AnyMessage): TaskEvent | undefined {
  const schema = schemas.find((it) => it.typeName === event.typeUrl);
  if (!schema) return undefined;
  // -- any of the nine, which differ in what they have besides the container's id
  const fields = fromBinary(schema, event.value) as unknown as Omit<TaskEvent, "topic">;
  return { ...fields, topic: topic.replace("/tasks/", ""), namespace };
}
