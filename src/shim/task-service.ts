import { create, toBinary } from "@bufbuild/protobuf";
import { type Any as AnyMessage, AnySchema } from "@bufbuild/protobuf/wkt";
import { Task as TaskV2 } from "#api/runtime/task/v2/shim_pb.ts";
import { type CreateTaskRequest, Task as TaskV3 } from "#api/runtime/task/v3/shim_pb.ts";
import { ProcessDetailsSchema } from "#api/types/runc/options/oci_pb.ts";
import { invalidArgument, notImplemented } from "#pkg/errors.ts";
import { type Handlers, serve, type Service } from "#pkg/rpc/service.ts";
import { toMetricsV1 } from "#core/cgroups/cgroup-v1-convert.ts";
import { toMetricsV2 } from "#core/cgroups/cgroup-v2-convert.ts";
import { fromMounts, fromOptions, toStatus, toTimestamp } from "./convert.ts";
import { type Exit, pidOf } from "./process-state.ts";
import type { Stdio } from "./stdio.ts";
import type { Supervisor } from "./supervisor.ts";

/** The shim protocol, versions 3 and 2, which have the same messages under two names. */
export function taskServices(supervisor: Supervisor): Service[] {
  const handlers = taskHandlers(supervisor);
  return [
    serve(TaskV3, handlers),
    // -- every message of version 2 has the fields of its namesake in version 3; none is told apart
    // by its type name
    serve(TaskV2, handlers as unknown as Handlers<typeof TaskV2>),
  ];
}

function taskHandlers(supervisor: Supervisor): Handlers<typeof TaskV3> {
  return {
    ...lifecycleHandlers(supervisor),
    ...processHandlers(supervisor),
    state: async (_ctx, { id, execId }) => {
      const container = supervisor.container(id);
      const process = container.process(execId);
      return {
        id: process.id,
        bundle: container.bundle,
        pid: pidOf(process.state),
        status: toStatus(container.statusOf(process)),
        ...process.stdio,
        ...toExit(process.exit),
      };
    },
    pids: async (ctx, { id }) => {
      const pids = await supervisor.container(id).pids(ctx);
      return {
        processes: pids.map(({ pid, execId }) => {
          return execId === "" ? { pid } : { pid, info: processDetails(execId) };
        }),
      };
    },
    stats: async (_ctx, { id }) => {
      const { cgroup } = supervisor.container(id);
      const stats = cgroup.version === 2 ? toMetricsV2(cgroup.path) : toMetricsV1(cgroup.paths);
      return { stats };
    },
    connect: async (_ctx, { id }) => {
      const container = supervisor.tryContainer(id);
      if (container === undefined && id !== "") supervisor.reserve(id);
      const taskPid = container ? pidOf(container.init.state) : 0;
      return { shimPid: process.pid, taskPid, version: "3" };
    },
    shutdown: async () => {
      supervisor.shutdown();
      return {};
    },
  };
}

function lifecycleHandlers(supervisor: Supervisor): Handlers<typeof TaskV3> {
  return {
    create: async (_ctx, request) => {
      const container = await supervisor.create({
        id: request.id,
        bundle: request.bundle,
        rootfs: fromMounts(request.rootfs),
        stdio: stdioOf(request),
        options: fromOptions(withoutCheckpoint(request).options),
      });
      return { pid: pidOf(container.init.state) };
    },
    start: async (_ctx, { id, execId }) => {
      const container = supervisor.container(id);
      const pid = execId === "" ? await container.start() : await container.execs.start(execId);
      return { pid };
    },
    delete: async (_ctx, { id, execId }) => {
      const exit =
        execId === ""
          ? await supervisor.delete(id)
          : await supervisor.container(id).execs.delete(execId);
      return { pid: exit?.pid ?? 0, ...toExit(exit) };
    },
    wait: async (ctx, { id, execId }) => {
      return toExit(await supervisor.container(id).process(execId).wait(ctx));
    },
    pause: async (_ctx, { id }) => {
      await supervisor.container(id).pause();
      return {};
    },
    resume: async (_ctx, { id }) => {
      await supervisor.container(id).resume();
      return {};
    },
    update: async (_ctx, { id, resources }) => {
      const container = supervisor.container(id);
      if (resources === undefined) throw invalidArgument("resources are required");
      await container.update(textOf(resources));
      return {};
    },
  };
}

function processHandlers(supervisor: Supervisor): Handlers<typeof TaskV3> {
  return {
    exec: async (_ctx, request) => {
      const container = supervisor.container(request.id);
      if (request.execId === "") throw invalidArgument("exec id is required");
      if (request.spec === undefined) throw invalidArgument("exec spec is required");
      const spec = textOf(request.spec);
      await container.addExec(request.execId, { spec, stdio: stdioOf(request) });
      return {};
    },
    kill: async (_ctx, { id, execId, signal, all }) => {
      const container = supervisor.container(id);
      if (execId === "") await container.kill(signal, all ? "all" : "init");
      else container.execs.kill(execId, signal);
      return {};
    },
    resizePty: async (_ctx, { id, execId, width, height }) => {
      // The kernel has 16 bits for each.
      const size = { columns: width & 0xffff, rows: height & 0xffff };
      supervisor.container(id).resize(execId, size);
      return {};
    },
    closeIO: async (_ctx, { id, execId }) => {
      supervisor.container(id).process(execId).io?.closeStdin();
      return {};
    },
  };
}

function withoutCheckpoint(request: CreateTaskRequest): CreateTaskRequest {
  if (request.checkpoint !== "") throw notImplemented("restore from a checkpoint");
  return request;
}

function stdioOf({ stdin, stdout, stderr, terminal }: Stdio): Stdio {
  return { stdin, stdout, stderr, terminal };
}

function toExit(exit: Exit | undefined): {
  exitStatus: number;
  exitedAt: ReturnType<typeof toTimestamp>;
} {
  return { exitStatus: exit?.status ?? 0, exitedAt: toTimestamp(exit?.at) };
}

function textOf(any: AnyMessage): string {
  return new TextDecoder().decode(any.value);
}

function processDetails(execId: string): AnyMessage {
  return create(AnySchema, {
    typeUrl: ProcessDetailsSchema.typeName,
    value: toBinary(ProcessDetailsSchema, create(ProcessDetailsSchema, { execId })),
  });
}
