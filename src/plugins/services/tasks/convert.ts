import { fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import type {
  DeleteResponseSchema,
  MetricsResponseSchema,
} from "#api/services/tasks/v1/tasks_pb.ts";
import { OptionsSchema } from "#api/types/runc/options/oci_pb.ts";
import { type ProcessSchema, Status } from "#api/types/task/task_pb.ts";
import type { Deprecations } from "#core/introspection/deprecations.ts";
import type { ProcessExit, ProcessState, TaskIo, TaskStatus } from "#core/runtime/runtime.ts";
import type { Any } from "#pkg/any.ts";
import { invalidArgument, messageOf } from "#pkg/errors.ts";
import { nanosToTimestamp, timestampOrUnset } from "#pkg/time.ts";
import type { TaskMetric } from "./local.ts";

const statuses = {
  unknown: Status.UNKNOWN,
  created: Status.CREATED,
  running: Status.RUNNING,
  stopped: Status.STOPPED,
  paused: Status.PAUSED,
  pausing: Status.PAUSING,
} as const satisfies Record<TaskStatus, Status>;

export function processMessage(state: ProcessState): MessageInitShape<typeof ProcessSchema> {
  return {
    id: state.id,
    pid: state.pid,
    status: statuses[state.status],
    stdin: state.stdin,
    stdout: state.stdout,
    stderr: state.stderr,
    terminal: state.terminal,
    exitStatus: state.exitStatus,
    exitedAt: timestampOrUnset(state.exitedAt),
  };
}

export function deleteMessage(
  id: string,
  exit: ProcessExit,
): MessageInitShape<typeof DeleteResponseSchema> {
  return {
    id,
    pid: exit.pid,
    exitStatus: exit.exitStatus,
    exitedAt: timestampOrUnset(exit.exitedAt),
  };
}

export function metricsMessage(
  metrics: readonly TaskMetric[],
): MessageInitShape<typeof MetricsResponseSchema> {
  return {
    metrics: metrics.map(({ id, timestamp, data }) => ({
      id,
      timestamp: nanosToTimestamp(timestamp),
      data: { ...data },
    })),
  };
}

export function ioOf({ stdin, stdout, stderr, terminal }: TaskIo): TaskIo {
  return { stdin, stdout, stderr, terminal };
}

export function anyOf(any: Any | undefined): Any | undefined {
  return any && { typeUrl: any.typeUrl, value: any.value };
}

interface TaskApi {
  readonly taskApiAddress: string;
  readonly taskApiVersion: number;
}

/** Where to find the tasks of a sandbox: as the request says, else as runc's options did before it could. */
export function taskApiOf(
  request: TaskApi,
  options: TaskApi,
  deprecations: Pick<Deprecations, "emit">,
): { readonly address: string; readonly version: number } {
  const isOldAddress = request.taskApiAddress === "" && options.taskApiAddress !== "";
  const isOldVersion = request.taskApiVersion === 0 && options.taskApiVersion !== 0;
  if (isOldAddress) deprecations.emit("io.containerd.deprecation/runc-options-task-api-address");
  if (isOldVersion) deprecations.emit("io.containerd.deprecation/runc-options-task-api-version");
  return {
    address: (isOldAddress ? options : request).taskApiAddress,
    version: (isOldVersion ? options : request).taskApiVersion,
  };
}

/**
 * What runc's options of a create call ask for beyond the shim's part. Options of other runtimes
 * ask for nothing.
 *
 * Throws `invalid-argument` when they do not decode.
 */
export function requestOfOptions(
  options: Any | undefined,
): TaskApi & { readonly criuImagePath: string } {
  const name = options?.typeUrl.slice(options.typeUrl.lastIndexOf("/") + 1);
  if (!options || name !== OptionsSchema.typeName) {
    return { criuImagePath: "", taskApiAddress: "", taskApiVersion: 0 };
  }
  try {
    return fromBinary(OptionsSchema, options.value);
  } catch (cause) {
    throw invalidArgument(`field options: ${name}: ${messageOf(cause)}`, { cause });
  }
}
