import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  TaskCreateSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskExitSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  TaskStartSchema,
} from "#api/events/task_pb.ts";
import { Task } from "#api/runtime/task/v3/shim_pb.ts";
import { Events } from "#api/services/ttrpc/events/v1/events_pb.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { type Client, serve } from "#pkg/rpc/service.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { openFilesOf } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";

export const shimPath: string = join(import.meta.dirname, "../../../bin/containerd-shim-runc-v2");

const eventSchemas = [
  TaskCreateSchema,
  TaskStartSchema,
  TaskExitSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskPausedSchema,
  TaskResumedSchema,
] as const;

/** An event as a line: topic, ids and status, in the order it arrived. */
export interface SeenEvent {
  readonly topic: string;
  readonly containerId: string;
  /** Exec id, or the container's for its first process. */
  readonly id: string;
  readonly exitStatus: number;
}

/** The daemon's side of a supervisor: receives events, starts it, calls it. */
export class SupervisorFixture {
  readonly ctx: Context;
  readonly room: Room;
  readonly dir: string;
  readonly events: SeenEvent[] = [];
  /** How long each event takes to be received. */
  eventDelayMs = 0;
  readonly stderr: string[] = [];
  task: Client<typeof Task>;
  pid: number;
  readonly socket: string;
  child: ChildProcess;
  #transport: TtrpcTransport;
  #eventServer: TtrpcServer;
  #waiters: (() => void)[] = [];

  private constructor(room: Room, parts: Started & { eventServer: TtrpcServer }) {
    this.room = room;
    this.dir = room.dir;
    this.ctx = Context.background({ signal: room.signal, namespace: room.namespace });
    this.child = parts.child;
    this.pid = parts.pid;
    this.socket = parts.socket;
    this.#transport = parts.transport;
    this.#eventServer = parts.eventServer;
    this.task = createClient(Task, parts.transport);
  }

  /**
   * Started with its bundles in `room.dir/state`; ended, with its containers, at the end of the
   * room.
   */
  static async start(room: Room, env: Record<string, string> = {}): Promise<SupervisorFixture> {
    mkdirSync(join(room.dir, "state"), { recursive: true });
    const seen: { receive?: Receive } = {};
    const eventServer = await serveEvents(room, async (topic, any) => seen.receive?.(topic, any));
    room.resources.use(eventServer);
    const started = await startSupervisor(room, env);
    const fixture = new SupervisorFixture(room, { ...started, eventServer });
    seen.receive = async (topic, any) => {
      if (fixture.eventDelayMs > 0) await delay(fixture.eventDelayMs);
      fixture.#receive(topic, any);
    };
    collect(started.child, fixture.stderr);
    room.resources.defer(() => fixture.#stop());
    return fixture;
  }

  /** A successor for the same group, after the process was killed. */
  async restart(env: Record<string, string> = {}): Promise<void> {
    await this.#transport.close();
    const started = await startSupervisor(this.room, env);
    collect(started.child, this.stderr);
    this.child = started.child;
    this.pid = started.pid;
    this.#transport = started.transport;
    this.task = createClient(Task, started.transport);
  }

  /** Resolves when the process has ended. */
  get ended(): Promise<unknown> {
    return this.child.exitCode === null ? once(this.child, "exit") : Promise.resolve();
  }

  async kill(): Promise<void> {
    const exited = once(this.child, "exit");
    process.kill(this.pid, "SIGKILL");
    await exited;
  }

  /** SIGTERM; the exit code. */
  async terminate(): Promise<unknown> {
    const exited = once(this.child, "exit");
    process.kill(this.pid, "SIGTERM");
    const [code] = (await exited) as [unknown]; // -- an exit event has its code first
    return code;
  }

  /** Another connection. */
  async connect(): Promise<Client<typeof Task>> {
    const transport = await TtrpcTransport.connect(this.ctx, this.socket);
    this.room.resources.use(transport);
    return createClient(Task, transport);
  }

  async waitForEvent(found: (event: SeenEvent) => boolean): Promise<SeenEvent> {
    for (;;) {
      const event = this.events.find(found);
      if (event) return event;
      this.room.signal.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiters.push(resolve);
      await promise;
    }
  }

  topics(containerId: string): string[] {
    return this.events
      .filter((event) => event.containerId === containerId)
      .map((event) => `${event.topic} ${event.id}`.trimEnd());
  }

  /** Kills and deletes a task, whatever its state. */
  async remove(id: string): Promise<void> {
    const { status } = await this.task.state(this.ctx, { id });
    if (status !== 3) {
      await this.task.kill(this.ctx, { id, signal: 9 });
      await this.task.wait(this.ctx, { id });
    }
    await this.task.delete(this.ctx, { id });
  }

  async stopEvents(): Promise<void> {
    await this.#eventServer.close();
  }

  async startEvents(): Promise<void> {
    this.#eventServer = await serveEvents(this.room, async (topic, any) => {
      this.#receive(topic, any);
    });
  }

  #receive(topic: string, any: Any): void {
    this.events.push(decodeEvent(topic, any));
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }

  async #stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, "exit");
      await this.task.shutdown(this.ctx.detached({ timeoutMs: 5000 }), { id: "" });
      await Promise.race([exited, once(AbortSignal.timeout(15_000), "abort")]);
    }
    await this.#transport.close();
    await this.#eventServer.close();
  }
}

function collect(child: ChildProcess, lines: string[]): void {
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    lines.push(text);
    if (process.env["SHIM_LOG"]) process.stderr.write(text);
  });
}

type Receive = (topic: string, any: Any) => Promise<void>;

async function serveEvents(room: Room, receive: Receive): Promise<TtrpcServer> {
  const service = serve(Events, {
    forward: async (_ctx, { envelope }) => {
      if (envelope?.event) await receive(envelope.topic, envelope.event);
      return {};
    },
  });
  const server = new TtrpcServer({ services: [service] });
  await server.listen(eventsPathOf(room), { mode: 0o600 });
  return server;
}

export function eventsPathOf(room: Room): string {
  return join(room.dir, "events.ttrpc");
}

export function superviseArgs(room: Room): string[] {
  const state = join(room.dir, "state");
  const who = ["-namespace", room.namespace, "-id", room.namespace];
  const where = ["-address", join(room.dir, "grpc"), "-socket-dir", join(room.dir, "s")];
  return [...who, ...where, "-state", state, "-debug", "supervise"];
}

export async function spawnSupervise(
  room: Room,
  env: Record<string, string> = {},
): Promise<{ child: ChildProcess; line: Promise<string | undefined> }> {
  const child = spawn(shimPath, superviseArgs(room), {
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`,
      TTRPC_ADDRESS: eventsPathOf(room),
      ...env,
    },
  });
  await once(child, "spawn");
  const line = firstLine(child);
  return { child, line };
}

async function firstLine(child: ChildProcess): Promise<string | undefined> {
  if (child.stdout === null) throw new Error("stdout is not a pipe");
  for await (const line of createInterface({ input: child.stdout })) return line;
  return undefined;
}

interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly socket: string;
  readonly transport: TtrpcTransport;
}

async function startSupervisor(room: Room, env: Record<string, string>): Promise<Started> {
  const { child, line } = await spawnSupervise(room, env);
  const text = await line;
  if (text === undefined) throw new Error(`supervisor failed: ${String(child.stderr?.read())}`);
  const ready = JSON.parse(text) as { address: string; pid: number }; // -- our own shim's line
  const socket = ready.address.slice("unix://".length);
  const transport = await TtrpcTransport.connect(Context.background(), socket);
  return { child, pid: ready.pid, socket, transport };
}

function decodeEvent(topic: string, any: Any): SeenEvent {
  const schema = eventSchemas.find((it) => it.typeName === any.typeUrl);
  if (schema === undefined) throw new Error(`event of unknown type ${any.typeUrl}`);
  // -- any of the eight, which differ in what they have
  const fields = fromBinary(schema, any.value) as Partial<Omit<SeenEvent, "topic">> & {
    execId?: string;
  };
  return {
    topic,
    containerId: fields.containerId ?? "",
    id: fields.id ?? fields.execId ?? "",
    exitStatus: fields.exitStatus ?? 0,
  };
}

/** What follows an answer (a record written, a stream closed) is over a little later. */
export async function holdsOnly(pid: number, expected: string[]): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    if (isDeepStrictEqual(await openFilesOf(pid), expected)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.deepEqual(await openFilesOf(pid), expected);
}
