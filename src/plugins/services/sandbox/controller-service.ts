import { Controller } from "#api/services/sandbox/v1/sandbox_pb.ts";
import { sandboxCreate, sandboxExit, sandboxStart } from "#core/events/convert.ts";
import type { Publisher } from "#core/events/events.ts";
import { topics } from "#core/events/topics.ts";
import { mountOf } from "#core/mount/convert.ts";
import { anyOf, sandboxOf } from "#core/sandbox/convert.ts";
import type { SandboxController, SandboxInput, SandboxInstance } from "#core/sandbox/sandbox.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, wrap } from "#pkg/errors.ts";
import { quote } from "#pkg/log-format.ts";
import { type Handlers, type Service, serve } from "#pkg/rpc/service.ts";
import { nanosToTimestamp, nowNanos, timestampOrUnset } from "#pkg/time.ts";

type ControllerHandlers = Handlers<typeof Controller>;

/**
 * containerd.services.sandbox.v1.Controller: each call goes to the controller it names. Creations,
 * starts and the exits that somebody waited for are told as events.
 */
export function sandboxControllerService(
  controllers: ReadonlyMap<string, SandboxController>,
  publisher: Publisher,
): Service {
  const find = finder(controllers);
  return serve(Controller, { ...lifecycle(find, publisher), ...observation(find, publisher) });
}

type Find = (sandboxer: string) => SandboxController;

function finder(controllers: ReadonlyMap<string, SandboxController>): Find {
  return (name) => {
    if (name === "") {
      const words = "invalid argument: sandbox controller name can not be empty";
      throw new CodedError("invalid-argument", words);
    }
    const controller = controllers.get(name);
    if (controller) return controller;
    throw new CodedError("not-found", `not found: failed to get sandbox controller by ${name}`);
  };
}

function lifecycle(find: Find, publisher: Publisher): ControllerHandlers {
  return {
    async create(ctx, request) {
      const { sandboxId, options, netnsPath, annotations } = request;
      const controller = find(request.sandboxer);
      const sandbox = request.sandbox ? sandboxOf(request.sandbox) : bare(sandboxId);
      await controller.create(ctx, sandbox, {
        rootfs: request.rootfs.map(mountOf),
        options: anyOf(options),
        netnsPath,
        annotations,
      });
      await publisher.publish(ctx, topics.sandboxCreate, sandboxCreate({ sandboxId }));
      return { sandboxId };
    },
    async start(ctx, { sandboxId, sandboxer }) {
      const { createdAt, labels, spec, ...instance } = await startIn(find, ctx, {
        sandboxId,
        sandboxer,
      });
      await publisher.publish(ctx, topics.sandboxStart, sandboxStart({ sandboxId }));
      return {
        ...instance,
        createdAt: timestampOrUnset(createdAt),
        labels: { ...labels },
        ...(spec && { spec: { ...spec } }),
      };
    },
    async stop(ctx, { sandboxId, sandboxer, timeoutSecs }) {
      await find(sandboxer).stop(ctx, sandboxId, { timeoutMs: timeoutSecs * 1000 });
      return {};
    },
    async shutdown(ctx, { sandboxId, sandboxer }) {
      await find(sandboxer).shutdown(ctx, sandboxId);
      return {};
    },
    async update(ctx, { sandboxId, sandboxer, sandbox, fields }) {
      await find(sandboxer).update(ctx, sandboxId, sandboxOf(sandbox), fields);
      return {};
    },
  };
}

function observation(find: Find, publisher: Publisher): ControllerHandlers {
  return {
    async platform(ctx, { sandboxId, sandboxer }) {
      return { platform: { ...(await find(sandboxer).platform(ctx, sandboxId)) } };
    },
    async wait(ctx, { sandboxId, sandboxer }) {
      const { exitStatus, exitedAt = nowNanos() } = await find(sandboxer).wait(ctx, sandboxId);
      const event = sandboxExit({ sandboxId, exitStatus, exitedAt });
      await publisher.publish(ctx, topics.sandboxExit, event);
      return { exitStatus, exitedAt: nanosToTimestamp(exitedAt) };
    },
    async status(ctx, { sandboxId, sandboxer, verbose }) {
      const status = await find(sandboxer).status(ctx, sandboxId, { verbose });
      const { info, createdAt, exitedAt, extra, ...more } = status;
      return {
        ...more,
        info: { ...info },
        createdAt: timestampOrUnset(createdAt),
        exitedAt: timestampOrUnset(exitedAt),
        // Go's clients look into it without asking whether it is there.
        extra: { ...(extra ?? { typeUrl: "", value: new Uint8Array() }) },
      };
    },
    async metrics(ctx, { sandboxId, sandboxer }) {
      const metric = await find(sandboxer).metrics(ctx, sandboxId);
      if (!metric) return {};
      const { id, timestamp, data } = metric;
      return {
        metrics: { id, timestamp: timestampOrUnset(timestamp), ...(data && { data: { ...data } }) },
      };
    },
  };
}

async function startIn(
  find: Find,
  ctx: Context,
  { sandboxId, sandboxer }: { readonly sandboxId: string; readonly sandboxer: string },
): Promise<SandboxInstance> {
  let controller: SandboxController;
  try {
    controller = find(sandboxer);
  } catch (error) {
    throw wrap(`failed to get sandbox controller for ${quote(sandboxer)}`, error);
  }
  try {
    return await controller.start(ctx, sandboxId);
  } catch (error) {
    throw wrap(`failed to start sandbox ${quote(sandboxId)}`, error);
  }
}

/** A client from before the request carried the whole record names it alone. */
function bare(id: string): SandboxInput {
  return {
    id,
    labels: {},
    runtime: { name: "", options: undefined },
    spec: undefined,
    sandboxer: "",
    extensions: {},
  };
}
