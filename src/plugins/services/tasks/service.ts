import { Tasks } from "#api/services/tasks/v1/tasks_pb.ts";
import type { Deprecations } from "#core/introspection/deprecations.ts";
import { CodedError, invalidArgument } from "#pkg/errors.ts";
import { type Handlers, type Service, serve } from "#pkg/rpc/service.ts";
import { timestampOrUnset } from "#pkg/time.ts";
import {
  anyOf,
  deleteMessage,
  ioOf,
  metricsMessage,
  processMessage,
  requestOfOptions,
  taskApiOf,
} from "./convert.ts";
import { assertSupported, type LocalTasks } from "./local.ts";

type TaskHandlers = Handlers<typeof Tasks>;

/** containerd.services.tasks.v1.Tasks; Checkpoint is not there yet. */
export function tasksService(tasks: LocalTasks, deprecations: Pick<Deprecations, "emit">): Service {
  return serve(Tasks, {
    ...lifecycle(tasks, deprecations),
    ...processes(tasks),
    ...observation(tasks),
  });
}

function lifecycle(tasks: LocalTasks, deprecations: Pick<Deprecations, "emit">): TaskHandlers {
  return {
    async create(ctx, request) {
      const asked = requestOfOptions(request.options);
      assertSupported({
        checkpoint: request.checkpoint !== undefined || asked.criuImagePath !== "",
      });
      const pid = await tasks.create(ctx, request.containerId, {
        rootfs: request.rootfs.map(({ type, source, target, options }) => ({
          type,
          source,
          target,
          options,
        })),
        io: ioOf(request),
        options: anyOf(request.options),
        runtimePath: request.runtimePath,
        taskApi: taskApiOf(request, asked, deprecations),
      });
      return { containerId: request.containerId, pid };
    },
    async start(ctx, { containerId, execId }) {
      const task = await tasks.task(ctx, containerId);
      return { pid: await task.start(ctx, execId) };
    },
    async delete(ctx, { containerId }) {
      return deleteMessage("", await tasks.delete(ctx, containerId));
    },
    async pause(ctx, { containerId }) {
      await (await tasks.task(ctx, containerId)).pause(ctx);
      return {};
    },
    async resume(ctx, { containerId }) {
      await (await tasks.task(ctx, containerId)).resume(ctx);
      return {};
    },
    async update(ctx, { containerId, resources, annotations }) {
      const task = await tasks.task(ctx, containerId);
      await task.update(ctx, anyOf(resources), annotations);
      return {};
    },
  };
}

function processes(tasks: LocalTasks): TaskHandlers {
  return {
    async exec(ctx, request) {
      if (request.execId === "") throw noExecId();
      const task = await tasks.task(ctx, request.containerId);
      const spec = anyOf(request.spec);
      if (!spec) throw invalidArgument("field spec must not be empty");
      await task.exec(ctx, request.execId, spec, ioOf(request));
      return {};
    },
    async deleteProcess(ctx, { containerId, execId }) {
      // The first process goes with its task alone: its bundle would be left.
      if (execId === "") throw noExecId();
      const task = await tasks.task(ctx, containerId);
      return deleteMessage(execId, await task.deleteProcess(ctx, execId));
    },
    async kill(ctx, { containerId, execId, signal, all }) {
      const task = await tasks.task(ctx, containerId);
      await task.kill(ctx, { execId, signal, all });
      return {};
    },
    async resizePty(ctx, { containerId, execId, width, height }) {
      const task = await tasks.task(ctx, containerId);
      await task.resizePty(ctx, { execId, width, height });
      return {};
    },
    async closeIO(ctx, { containerId, execId, stdin }) {
      const task = await tasks.task(ctx, containerId);
      if (stdin) await task.closeStdin(ctx, execId);
      return {};
    },
    async wait(ctx, { containerId, execId }) {
      const task = await tasks.task(ctx, containerId);
      const { exitStatus, exitedAt } = await task.wait(ctx, execId);
      return { exitStatus, exitedAt: timestampOrUnset(exitedAt) };
    },
  };
}

/** Upstream's words, without the class that others have behind them. */
function noExecId(): CodedError {
  return new CodedError("invalid-argument", "exec id cannot be empty");
}

function observation(tasks: LocalTasks): TaskHandlers {
  return {
    async get(ctx, { containerId, execId }) {
      return { process: processMessage(await tasks.state(ctx, containerId, execId)) };
    },
    async list(ctx) {
      return { tasks: (await tasks.list(ctx)).map(processMessage) };
    },
    async listPids(ctx, { containerId }) {
      const pids = await (await tasks.task(ctx, containerId)).pids(ctx);
      return { processes: pids.map(({ pid, info }) => ({ pid, ...(info && { info }) })) };
    },
    async metrics(ctx, { filters }) {
      return metricsMessage(await tasks.metrics(ctx, filters));
    },
  };
}
