import { closeSync, constants, openSync } from "node:fs";
import { chmod, copyFile, mkdir, readdir } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import { fromBinary } from "@bufbuild/protobuf";
import { TaskExitSchema } from "#api/events/task_pb.ts";
import type { Container } from "#core/containers/containers.ts";
import { eventField } from "#core/events/convert.ts";
import type { Publisher } from "#core/events/events.ts";
import { Deprecations } from "#core/introspection/deprecations.ts";
import { bundleUnmount } from "#core/runtime/bundle-mounts.ts";
import { DescriptorKeeper } from "#core/runtime/descriptor-keeper.ts";
import type { LaunchedProgram, ProgramRunner } from "#core/runtime/program.ts";
import { dialShim } from "#core/runtime/shim-connection.ts";
import { loadShims, taskPlace } from "#core/runtime/shim-loader.ts";
import { defaultShimTimeouts, ShimManager, type ShimTimeouts } from "#core/runtime/shim-manager.ts";
import { SpawnedPrograms } from "#core/runtime/spawned-programs.ts";
import type { GroupSettings } from "#core/runtime/supervisor-group.ts";
import { ShimTaskRuntime } from "#core/runtime/task-runtime.ts";
import type { Any } from "#pkg/any.ts";
import { Context } from "#pkg/context.ts";
import { notFound } from "#pkg/errors.ts";
import type { LogFields, Logger } from "#pkg/log.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client } from "#pkg/rpc/service.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { linux } from "#pkg/sys/linux.ts";
import { Reaper } from "#pkg/sys/reaper.ts";
import { spawnProcess } from "#pkg/sys/spawn.ts";
import { ttrpcEventsService } from "#plugins/services/events/service.ts";
import { LocalTasks } from "#plugins/services/tasks/local.ts";
import { tasksService } from "#plugins/services/tasks/service.ts";
import { debianProgram } from "#test/support/debian.ts";
import type { Room } from "#test/support/room.ts";
import { until } from "#test/support/processes.ts";

const project = join(import.meta.dirname, "../../..");

export interface SeenEvent {
  readonly topic: string;
  readonly namespace: string;
  /** The container, and the process for those that name one: `c1`, `c1/e1`. */
  readonly subject: string;
  readonly exitStatus: number | undefined;
}

/**
 * The runtime half of a daemon in this process: its Tasks service on a socket, and where events
 * arrive.
 */
export interface TaskDaemon {
  readonly ctx: Context;
  readonly tasks: Client<typeof Tasks>;
  readonly manager: ShimManager;
  readonly events: readonly SeenEvent[];
  readonly log: readonly string[];
  readonly containers: Map<string, Container>;
  /** Drops the runtime object as a killed daemon would; supervisors and containers go on. */
  drop(): Promise<void>;
  /** Makes another one on the same directories, which loads what is there. */
  start(): Promise<void>;
  restart(): Promise<void>;
  /** Runs once, before the next supervisor is started. */
  holdLaunches(meanwhile: () => Promise<void>): void;
}

let reaper: Reaper | undefined;

export interface TaskDaemonOptions {
  readonly groups?: GroupSettings;
  readonly supervisorLingerMs?: number;
  readonly timeouts?: ShimTimeouts;
}

export async function startTaskDaemon(
  room: Room,
  options: TaskDaemonOptions = {},
): Promise<TaskDaemon> {
  const daemon = new InProcessDaemon(room, options);
  await daemon.start();
  room.resources.defer(() => daemon.drop());
  return daemon;
}

class InProcessDaemon implements TaskDaemon {
  readonly ctx: Context;
  readonly events: SeenEvent[] = [];
  readonly log: string[] = [];
  readonly containers = new Map<string, Container>();
  #manager: ShimManager | undefined;
  #tasks: Client<typeof Tasks> | undefined;
  #resources = new AsyncDisposableStack();
  readonly #room: Room;
  readonly #dir: string;
  #beforeLaunch: (() => Promise<void>) | undefined;
  readonly #options: TaskDaemonOptions;

  constructor(room: Room, options: TaskDaemonOptions) {
    this.#options = options;
    this.#room = room;
    this.#dir = room.dir;
    this.ctx = Context.background({ logger: lineLogger(this.log) }).withNamespace(room.namespace);
  }

  get tasks(): Client<typeof Tasks> {
    if (!this.#tasks) throw new Error("the daemon was dropped");
    return this.#tasks;
  }

  get manager(): ShimManager {
    if (!this.#manager) throw new Error("the daemon was dropped");
    return this.#manager;
  }

  async start(): Promise<void> {
    reaper ??= new Reaper({ sys: linux, mode: "known" });
    const resources = new AsyncDisposableStack();
    const supervisorLog = join(this.#dir, "supervisors.log");
    const stderr = openSync(supervisorLog, "a");
    resources.defer(() => closeSync(stderr));
    this.#room.logs.add(supervisorLog);
    const ttrpcAddress = join(this.#dir, "d.sock.ttrpc");
    const publisher = this.#publisher();
    const forwarded = ttrpcEventsService({
      forward: async (_ctx, { topic, namespace, event }) => this.#see(topic, namespace, event),
    });
    const events = resources.use(new TtrpcServer({ services: [forwarded] }));
    await events.listen(ttrpcAddress, { mode: 0o600 });
    const life = new AbortController();
    const lifetime = Context.background({ logger: lineLogger(this.log), signal: life.signal });
    const roots = { root: join(this.#dir, "root"), state: join(this.#dir, "state") };
    await mkdir(roots.state, { recursive: true });
    const manager = resources.use(
      new ShimManager({
        lifetime,
        roots,
        host: {
          programs: this.#programs(
            new SpawnedPrograms({ sys: linux, spawn: spawnProcess, reaper, stderr }),
          ),
          grpcAddress: join(this.#dir, "d.sock"),
          ttrpcAddress,
          socketDir: join(this.#dir, "s"),
          containerdBinary: join(project, "bin/containerd"),
          version: "0.0.0-test",
          logLevel: "info",
          env: {
            PATH: process.env["PATH"] ?? "",
            CONTAINERD_NOFILE_SOFT: "1024",
            CONTAINERD_SHIM_FAILPOINTS: join(this.#dir, "failpoints"),
          },
          shimEnv: {},
        },
        search: { daemonDir: join(project, "bin"), path: process.env["PATH"] ?? "" },
        supervisorBinary: join(project, "bin/containerd-shim-runc-v2"),
        groups: { grouping: "namespace", hasSchedCore: false, oomScore: 0 },
        publisher,
        containers: { get: async (_ctx, id) => this.#container(id) },
        sandboxes: {
          get: async (_ctx, id) => {
            throw notFound(`sandbox "${id}"`);
          },
        },
        dial: dialShim,
        keep: (within, path) => DescriptorKeeper.connect(within, linux, path),
        unmount: bundleUnmount(linux),
        mkfifo: (file, mode) => linux.mkfifo(file, mode),
        logSink: (chunk) => this.log.push(`shim: ${Buffer.from(chunk).toString("utf8")}`),
        timeouts: defaultShimTimeouts,
        ...this.#options,
      }),
    );
    await loadShims(lifetime, manager, taskPlace(manager));
    const local = new LocalTasks({
      containers: manager.options.containers,
      runtime: new ShimTaskRuntime(manager),
    });
    const server = resources.use(
      new TtrpcServer({ services: [tasksService(local, new Deprecations())] }),
    );
    const path = join(this.#dir, "tasks.sock");
    await server.listen(path, { mode: 0o600 });
    const transport = resources.use(await TtrpcTransport.connect(this.ctx, path));
    resources.defer(() => life.abort());
    this.#manager = manager;
    this.#tasks = createClient(Tasks, transport);
    this.#resources = resources;
  }

  async drop(): Promise<void> {
    this.#manager = undefined;
    this.#tasks = undefined;
    const resources = this.#resources;
    this.#resources = new AsyncDisposableStack();
    await resources.disposeAsync();
  }

  async restart(): Promise<void> {
    await this.drop();
    await this.start();
  }

  holdLaunches(meanwhile: () => Promise<void>): void {
    this.#beforeLaunch = meanwhile;
  }

  #programs(real: SpawnedPrograms): ProgramRunner {
    return {
      run: (ctx, request) => real.run(ctx, request),
      launch: (request) => {
        const meanwhile = this.#beforeLaunch;
        this.#beforeLaunch = undefined;
        return meanwhile
          ? launchLater(meanwhile, () => real.launch(request))
          : real.launch(request);
      },
    };
  }

  #container(id: string): Container {
    const container = this.containers.get(id);
    if (!container) throw notFound(`container "${id}" in namespace "${this.ctx.namespace}"`);
    return container;
  }

  #publisher(): Publisher {
    return {
      publish: async (ctx, topic, event) => {
        this.#see(topic, ctx.namespace ?? "", event);
      },
    };
  }

  #see(topic: string, namespace: string, event: Any): void {
    const container = eventField(event, ["container_id"]) ?? "";
    const isExit = topic === "/tasks/exit";
    const id = isExit ? eventField(event, ["id"]) : undefined;
    this.events.push({
      topic,
      namespace,
      subject: id === undefined || id === container ? container : `${container}/${id}`,
      exitStatus: isExit ? fromBinary(TaskExitSchema, event.value).exitStatus : undefined,
    });
  }
}

function launchLater(
  meanwhile: () => Promise<void>,
  launch: () => LaunchedProgram,
): LaunchedProgram {
  const launched = meanwhile().then(launch);
  return {
    pid: 0,
    announcement: launched.then((program) => program.announcement),
    exited: launched.then((program) => program.exited),
    feed: (stdin) => void launched.then((program) => program.feed(stdin)),
    kill: () => void launched.then((program) => program.kill()),
  };
}

function lineLogger(lines: string[], fields: LogFields = {}): Logger {
  const line =
    (level: string) =>
    (message: string, more: LogFields = {}): void => {
      const all = { ...fields, ...more };
      const shown = Object.entries(all).map(([key, value]) => `${key}=${String(value)}`);
      lines.push(`${level} ${message} ${shown.join(" ")}`);
    };
  return {
    trace: () => undefined,
    debug: line("debug"),
    info: line("info"),
    warn: line("warn"),
    error: line("error"),
    with: (more) => lineLogger(lines, { ...fields, ...more }),
  };
}

/** Puts a container on record that runs a shell of busybox in a root of its own. */
export async function recordContainer(
  daemon: TaskDaemon,
  room: Room,
  id: string,
  options: {
    readonly args: readonly string[];
    readonly runtime?: string;
    readonly terminal?: boolean;
    readonly annotations?: Readonly<Record<string, string>>;
  },
): Promise<void> {
  await makeRoot(room);
  const now = 0n;
  daemon.containers.set(id, {
    id,
    labels: {},
    image: "",
    runtime: { name: options.runtime ?? "io.containerd.runc.v2", options: undefined },
    spec: {
      typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec",
      value: Buffer.from(JSON.stringify(runtimeSpec(room, id, options))),
    },
    snapshotter: "",
    snapshotKey: "",
    createdAt: now,
    updatedAt: now,
    extensions: {},
    sandbox: "",
  });
}

/** The root file system that all containers of the room share, to be bind mounted. */
export function rootfsMounts(room: Room): { type: string; source: string; options: string[] }[] {
  return [{ type: "bind", source: join(room.dir, "image"), options: ["rbind", "ro"] }];
}

/** What there is of bundles in the room's namespace; hidden names are the daemon's own. */
export async function bundleNames(room: Room): Promise<string[]> {
  const names = await readdir(join(room.dir, "state", room.namespace));
  return names.filter((name) => !name.startsWith("."));
}

/** The root file system that `rootfsMounts` names. */
export async function makeRoot(room: Room): Promise<void> {
  const image = join(room.dir, "image");
  for (const dir of ["bin", "proc", "dev", "sys", "tmp"]) {
    await mkdir(join(image, dir), { recursive: true });
  }
  const busybox = join(image, "bin/busybox");
  try {
    await copyFile(debianProgram("busybox"), busybox, constants.COPYFILE_EXCL);
  } catch {
    return; // -- an earlier container of the room has made it
  }
  await chmod(busybox, 0o755);
}

export function processSpec(args: readonly string[], terminal = false): Record<string, unknown> {
  const capabilities = ["CAP_KILL"];
  return {
    terminal,
    user: { uid: 0, gid: 0 },
    args,
    env: ["PATH=/bin"],
    cwd: "/",
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    noNewPrivileges: true,
  };
}

export function shell(script: string): string[] {
  return ["/bin/busybox", "sh", "-c", script];
}

export function runtimeSpec(
  room: Room,
  id: string,
  {
    args,
    terminal,
    annotations,
  }: {
    readonly args: readonly string[];
    readonly terminal?: boolean;
    readonly annotations?: Readonly<Record<string, string>>;
  },
): Record<string, unknown> {
  return {
    ociVersion: "1.0.2",
    ...(annotations && { annotations }),
    process: processSpec(args, terminal),
    root: { path: "rootfs", readonly: true },
    hostname: id,
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
      {
        destination: "/dev/pts",
        type: "devpts",
        source: "devpts",
        options: ["newinstance", "ptmxmode=0666"],
      },
      { destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid"] },
    ],
    linux: {
      cgroupsPath: `/${room.namespace}/${id}`,
      namespaces: ["pid", "ipc", "uts", "mount", "network"].map((type) => ({ type })),
    },
  };
}

/** A client's end of a process's output: a FIFO and what has come out of it. */
export interface OutputFifo extends Disposable {
  readonly path: string;
  text(): string;
}

export function outputFifo(room: Room, name: string): OutputFifo {
  const path = join(room.dir, name);
  linux.mkfifo(path, 0o600);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const socket = new Socket({ fd, readable: true, writable: false });
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  const fifo = {
    path,
    text: () => Buffer.concat(chunks).toString("utf8"),
    [Symbol.dispose]: () => {
      socket.destroy();
    },
  };
  room.resources.use(fifo);
  return fifo;
}

/**
 * Writes to a FIFO that a process reads; the process sees the end when this is closed and its shim
 * closes too.
 */
export function inputFifo(
  room: Room,
  name: string,
): { path: string; open(): { say: (text: string) => void; close: () => void } } {
  const path = join(room.dir, name);
  linux.mkfifo(path, 0o600);
  return {
    path,
    open: () => {
      const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
      const socket = new Socket({ fd, readable: false, writable: true });
      room.resources.defer(() => {
        socket.destroy();
      });
      return { say: (text) => socket.write(text), close: () => socket.destroy() };
    },
  };
}

export async function untilText(what: OutputFifo, pattern: RegExp): Promise<void> {
  await until(`output matches ${pattern}`, () => pattern.test(what.text()));
}
