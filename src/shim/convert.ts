import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Any as AnyMessage,
  AnySchema,
  type Timestamp,
  TimestampSchema,
  anyPack,
} from "@bufbuild/protobuf/wkt";
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
import type { Mount as MountMessage } from "#api/types/mount_pb.ts";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { Status } from "#api/types/task/task_pb.ts";
import type { Mount } from "#core/mount/mount.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { nanosToTimestamp, type UnixNanos } from "#pkg/time.ts";
import { defaultOptions, type RuncOptions } from "./options.ts";
import type { ProcessState } from "./process-state.ts";
import type { TaskEvent } from "./task-events.ts";

// Go's time.Time without a value, which clients know by IsZero().
const goZeroSeconds = -62_135_596_800n;

export function toTimestamp(at: UnixNanos | undefined): Timestamp {
  return create(
    TimestampSchema,
    at === undefined || at === 0n ? { seconds: goZeroSeconds } : nanosToTimestamp(at),
  );
}

const statuses = {
  created: Status.CREATED,
  running: Status.RUNNING,
  pausing: Status.PAUSING,
  paused: Status.PAUSED,
  stopped: Status.STOPPED,
  deleted: Status.STOPPED,
} as const satisfies Record<ProcessState["status"], Status>;

export function toStatus(status: ProcessState["status"]): Status {
  return statuses[status];
}

export function fromMounts(mounts: readonly MountMessage[]): Mount[] {
  return mounts.map(({ type, source, target, options }) => ({ type, source, target, options }));
}

/** The name of a type without the host that may stand before it. */
export function typeNameOf(any: AnyMessage): string {
  return any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
}

/**
 * Options of a create call. Those of another runtime's type say nothing about runc and are passed
 * over, as upstream does; ones that claim to be runc's and are not throw `invalid-argument`.
 */
export function fromOptions(any: AnyMessage | undefined): RuncOptions {
  if (any === undefined || typeNameOf(any) !== OptionsSchema.typeName) return defaultOptions;
  try {
    const message = fromBinary(OptionsSchema, any.value);
    return {
      noPivotRoot: message.noPivotRoot,
      noNewKeyring: message.noNewKeyring,
      shimCgroup: message.shimCgroup,
      ioUid: message.ioUid,
      ioGid: message.ioGid,
      binaryName: message.binaryName,
      root: message.root,
      systemdCgroup: message.systemdCgroup,
      criuImagePath: message.criuImagePath,
      criuWorkPath: message.criuWorkPath,
    };
  } catch (error) {
    throw invalidArgument(`runtime options: ${messageOf(error)}`, { cause: error });
  }
}

/** As it goes into an envelope: type urls are bare names, as Go's typeurl writes them. */
export function toEventAny(event: TaskEvent): AnyMessage {
  const any = pack(event);
  return create(AnySchema, { typeUrl: typeNameOf(any), value: any.value });
}

function pack(event: TaskEvent): AnyMessage {
  const { containerId } = event;
  switch (event.topic) {
    case "/tasks/create":
      return anyPack(TaskCreateSchema, create(TaskCreateSchema, taskCreate(event)));
    case "/tasks/start":
      return anyPack(TaskStartSchema, create(TaskStartSchema, { containerId, pid: event.pid }));
    case "/tasks/exit": {
      const { pid, status: exitStatus, at } = event.exit;
      const init = { containerId, id: event.id, pid, exitStatus, exitedAt: toTimestamp(at) };
      return anyPack(TaskExitSchema, create(TaskExitSchema, init));
    }
    case "/tasks/delete": {
      const { pid, status: exitStatus, at } = event.exit;
      const init = { containerId, pid, exitStatus, exitedAt: toTimestamp(at) };
      return anyPack(TaskDeleteSchema, create(TaskDeleteSchema, init));
    }
    case "/tasks/exec-added": {
      const init = { containerId, execId: event.execId };
      return anyPack(TaskExecAddedSchema, create(TaskExecAddedSchema, init));
    }
    case "/tasks/exec-started": {
      const init = { containerId, execId: event.execId, pid: event.pid };
      return anyPack(TaskExecStartedSchema, create(TaskExecStartedSchema, init));
    }
    case "/tasks/oom":
      return anyPack(TaskOOMSchema, create(TaskOOMSchema, { containerId }));
    case "/tasks/paused":
      return anyPack(TaskPausedSchema, create(TaskPausedSchema, { containerId }));
    case "/tasks/resumed":
      return anyPack(TaskResumedSchema, create(TaskResumedSchema, { containerId }));
  }
}

function taskCreate(
  event: TaskEvent & { topic: "/tasks/create" },
): MessageInitShape<typeof TaskCreateSchema> {
  const { containerId, bundle, stdio, pid } = event;
  const rootfs = event.rootfs.map((mount) => ({ ...mount, options: [...mount.options] }));
  return { containerId, bundle, rootfs, io: stdio, pid };
}
