// A shim that is nobody's, for tests: its containers are bare processes, and FOREIGN_SHIM says how it misbehaves.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { create, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import {
  BootstrapParamsSchema,
  BootstrapResultSchema,
} from "#api/runtime/bootstrap/v1/bootstrap_pb.ts";
import { DeleteResponseSchema, Task } from "#api/runtime/task/v3/shim_pb.ts";
import { Status } from "#api/types/task/task_pb.ts";
import { alreadyExists, notFound } from "#pkg/errors.ts";
import { GrpcServer } from "#pkg/rpc/grpc/server.ts";
import { type Handlers, serve } from "#pkg/rpc/service.ts";
import { TtrpcServer } from "#pkg/rpc/ttrpc/server.ts";

export type ForeignMode =
  | "ttrpc"
  | "grpc"
  | "prints-garbage"
  | "fails-at-start"
  | "hangs-at-start"
  | "serves-nowhere"
  | "speaks-version-9"
  | "answers-garbage"
  | "never-creates"
  | "never-shuts-down"
  | "never-deletes";

const mode = (process.env["FOREIGN_SHIM"] ?? "ttrpc") as ForeignMode; // -- the test's own wrapper sets it
const action = process.argv.at(-1) ?? "";
/** The bundle is the working directory of every command. */
const pidFile = join(process.cwd(), "foreign.pid");

function flag(name: string): string {
  return process.argv[process.argv.indexOf(name) + 1] ?? "";
}

function never(): Promise<never> {
  return new Promise(() => setInterval(() => undefined, 60_000));
}

async function start(): Promise<void> {
  const params = fromBinary(BootstrapParamsSchema, readFileSync(0));
  writeFileSync("params.json", toJsonString(BootstrapParamsSchema, params));
  writeFileSync("command.json", JSON.stringify({ args: process.argv.slice(2), env: process.env }));
  if (params.instanceId !== flag("-id") || params.namespace !== flag("-namespace")) {
    throw new Error("the parameters are another container's");
  }
  if (mode === "fails-at-start") {
    writeSync(2, "no machine to boot\n");
    process.exit(3);
  }
  if (mode === "hangs-at-start") {
    writeSync(2, "the machine boots\n");
    await never();
  }
  if (mode === "prints-garbage") return void writeSync(1, "\u0001 this is no address \u0002");
  const socketDir = params.socketDir ?? "/run/containerd/s";
  mkdirSync(socketDir, { recursive: true, mode: 0o700 });
  const socket = join(socketDir, `foreign-${params.instanceId}`);
  if (mode !== "serves-nowhere" && mode !== "speaks-version-9") {
    const args = [import.meta.filename, socket, "serve"];
    spawn(process.execPath, args, { detached: true, stdio: "ignore" }).unref();
    while (!existsSync(socket)) await delay(10);
  }
  const result = create(BootstrapResultSchema, {
    version: mode === "speaks-version-9" ? 9 : 3,
    address: `unix://${socket}`,
    protocol: mode === "grpc" ? "grpc" : "ttrpc",
  });
  writeSync(1, toBinary(BootstrapResultSchema, result));
}

async function deleteContainer(): Promise<void> {
  if (mode === "never-deletes") {
    writeSync(2, "the machine halts\n");
    await never();
  }
  let pid = 0;
  if (existsSync(pidFile)) {
    pid = Number(readFileSync(pidFile, "utf8"));
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
  const exit = { pid, exitStatus: 137, exitedAt: timestampNow() };
  writeSync(1, toBinary(DeleteResponseSchema, create(DeleteResponseSchema, exit)));
}

interface Running {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly exited: Promise<{ exitStatus: number; exitedAt: ReturnType<typeof timestampNow> }>;
}

function handlers(): Handlers<typeof Task> {
  let task: Running | undefined;
  const running = (): Running => {
    if (!task) throw notFound("task");
    return task;
  };
  return {
    connect: async () => ({ shimPid: process.pid, taskPid: task?.pid ?? 0, version: "3" }),
    create: async () => {
      if (mode === "never-creates") await never();
      if (task) throw alreadyExists("task");
      const child = spawn("sleep", ["1000"], { stdio: "ignore" });
      await once(child, "spawn");
      const exited = once(child, "exit").then(([code, signal]) => ({
        exitStatus: signal === "SIGKILL" ? 137 : Number(code),
        exitedAt: timestampNow(),
      }));
      task = { child, pid: child.pid ?? 0, exited };
      writeFileSync(pidFile, String(task.pid));
      return { pid: task.pid };
    },
    start: async () => ({ pid: running().pid }),
    state: async (_ctx, { id }) => {
      const { child, pid } = running();
      const hasEnded = child.exitCode !== null || child.signalCode !== null;
      return { id, pid, status: hasEnded ? Status.STOPPED : Status.RUNNING };
    },
    wait: async () => running().exited,
    kill: async () => {
      log(`kills ${running().pid}`);
      running().child.kill("SIGKILL");
      return {};
    },
    delete: async () => {
      const { pid, exited } = running();
      const exit = await exited;
      task = undefined;
      return { pid, ...exit };
    },
    shutdown: async () => {
      if (mode === "never-shuts-down") await never();
      if (!task) setImmediate(() => process.exit(0));
      return {};
    },
  };
}

/** As Go's shims: for writing alone, which without a reader waits or fails. */
function log(line: string): void {
  const fd = openSync("log", constants.O_WRONLY | constants.O_APPEND);
  writeSync(fd, `${line}\n`);
  closeSync(fd);
}

async function serveOn(socket: string): Promise<void> {
  log(`serves ${basename(process.cwd())}`);
  if (mode === "answers-garbage") {
    createServer((connection) => {
      connection.on("error", () => undefined);
      // Nobody could tell it to end.
      connection.on("close", () => process.exit(0));
      connection.on("data", () => connection.end(Buffer.alloc(64 << 10)));
    }).listen(socket);
    return;
  }
  const services = [serve(Task, handlers())];
  const server = mode === "grpc" ? new GrpcServer({ services }) : new TtrpcServer({ services });
  await server.listen(socket, { mode: 0o600 });
}

switch (action) {
  case "start":
    await start();
    break;
  case "delete":
    await deleteContainer();
    break;
  case "serve":
    await serveOn(process.argv.at(-2) ?? "");
    break;
  default:
    throw new Error(`unknown action ${action}`);
}
