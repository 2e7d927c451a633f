import {
  create,
  createRegistry,
  type DescField,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import {
  ContainerCreateSchema,
  ContainerDeleteSchema,
  ContainerUpdateSchema,
  file_events_container,
} from "#api/events/container_pb.ts";
import {
  ContentCreateSchema,
  ContentDeleteSchema,
  file_events_content,
} from "#api/events/content_pb.ts";
import {
  file_events_image,
  ImageCreateSchema,
  ImageDeleteSchema,
  ImageUpdateSchema,
} from "#api/events/image_pb.ts";
import {
  file_events_namespace,
  NamespaceCreateSchema,
  NamespaceDeleteSchema,
  NamespaceUpdateSchema,
} from "#api/events/namespace_pb.ts";
import {
  file_events_sandbox,
  SandboxCreateSchema,
  SandboxExitSchema,
  SandboxStartSchema,
} from "#api/events/sandbox_pb.ts";
import {
  file_events_snapshot,
  SnapshotCommitSchema,
  SnapshotPrepareSchema,
  SnapshotRemoveSchema,
} from "#api/events/snapshot_pb.ts";
import {
  file_events_task,
  TaskCheckpointedSchema,
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
import type { Mount } from "#core/mount/mount.ts";
import type { Any } from "#pkg/any.ts";
import type { Labels } from "#pkg/label.ts";
import { nanosToTimestamp, type UnixNanos } from "#pkg/time.ts";

function payload<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Any {
  return { typeUrl: schema.typeName, value: toBinary(schema, create(schema, init)) };
}

interface Named {
  readonly name: string;
}
interface Labelled extends Named {
  readonly labels: Labels;
}
interface Identified {
  readonly id: string;
}

export const containerCreate = (
  e: Identified & { image: string; runtime?: { name: string; options?: Any | undefined } },
): Any =>
  payload(ContainerCreateSchema, {
    id: e.id,
    image: e.image,
    ...(e.runtime && {
      runtime: {
        name: e.runtime.name,
        ...(e.runtime.options && { options: { ...e.runtime.options } }),
      },
    }),
  });
export const containerUpdate = (
  e: Identified & { image: string; labels: Labels; snapshotKey: string },
): Any => payload(ContainerUpdateSchema, { ...e, labels: { ...e.labels } });
export const containerDelete = (e: Identified): Any => payload(ContainerDeleteSchema, { id: e.id });

export const contentCreate = (e: {
  digest: string;
  sizeBytes: number;
  /** Known where the daemon itself pulled; empty for what a client wrote. */
  mediaType: string;
}): Any =>
  payload(ContentCreateSchema, {
    digest: e.digest,
    size: BigInt(e.sizeBytes),
    mediaType: e.mediaType,
  });
export const contentDelete = (e: { digest: string }): Any =>
  payload(ContentDeleteSchema, { digest: e.digest });

const labelled = (e: Labelled): { name: string; labels: Record<string, string> } => ({
  name: e.name,
  labels: { ...e.labels },
});
export const imageCreate = (e: Labelled): Any => payload(ImageCreateSchema, labelled(e));
export const imageUpdate = (e: Labelled): Any => payload(ImageUpdateSchema, labelled(e));
export const imageDelete = (e: Named): Any => payload(ImageDeleteSchema, { name: e.name });
export const namespaceCreate = (e: Labelled): Any => payload(NamespaceCreateSchema, labelled(e));
export const namespaceUpdate = (e: Labelled): Any => payload(NamespaceUpdateSchema, labelled(e));
export const namespaceDelete = (e: Named): Any => payload(NamespaceDeleteSchema, { name: e.name });

export const sandboxCreate = (e: { sandboxId: string }): Any =>
  payload(SandboxCreateSchema, { sandboxId: e.sandboxId });
export const sandboxStart = (e: { sandboxId: string }): Any =>
  payload(SandboxStartSchema, { sandboxId: e.sandboxId });
export const sandboxExit = (e: {
  sandboxId: string;
  exitStatus: number;
  exitedAt: UnixNanos;
}): Any => payload(SandboxExitSchema, { ...e, exitedAt: nanosToTimestamp(e.exitedAt) });

export const snapshotPrepare = (e: { key: string; parent: string; snapshotter: string }): Any =>
  payload(SnapshotPrepareSchema, { ...e });
export const snapshotCommit = (e: { key: string; name: string; snapshotter: string }): Any =>
  payload(SnapshotCommitSchema, { ...e });
export const snapshotRemove = (e: { key: string; snapshotter: string }): Any =>
  payload(SnapshotRemoveSchema, { ...e });

interface OfTask {
  readonly containerId: string;
}
interface Exited extends OfTask {
  /** The container for its first process, else the exec id. */
  readonly id: string;
  readonly pid: number;
  readonly exitStatus: number;
  readonly exitedAt: UnixNanos;
}

export const taskCreate = (
  e: OfTask & {
    bundle: string;
    rootfs: readonly Mount[];
    io: { stdin: string; stdout: string; stderr: string; terminal: boolean };
    checkpoint: string;
    pid: number;
  },
): Any =>
  payload(TaskCreateSchema, {
    containerId: e.containerId,
    bundle: e.bundle,
    rootfs: e.rootfs.map((mount) => ({ ...mount, options: [...mount.options] })),
    io: { ...e.io },
    checkpoint: e.checkpoint,
    pid: e.pid,
  });
export const taskStart = (e: OfTask & { pid: number }): Any =>
  payload(TaskStartSchema, { containerId: e.containerId, pid: e.pid });
export const taskDelete = (e: Exited): Any => payload(TaskDeleteSchema, exited(e));
export const taskExit = (e: Exited): Any => payload(TaskExitSchema, exited(e));
export const taskOom = (e: OfTask): Any => payload(TaskOOMSchema, { containerId: e.containerId });
export const taskExecAdded = (e: OfTask & { execId: string }): Any =>
  payload(TaskExecAddedSchema, { containerId: e.containerId, execId: e.execId });
export const taskExecStarted = (e: OfTask & { execId: string; pid: number }): Any =>
  payload(TaskExecStartedSchema, { containerId: e.containerId, execId: e.execId, pid: e.pid });
export const taskPaused = (e: OfTask): Any =>
  payload(TaskPausedSchema, { containerId: e.containerId });
export const taskResumed = (e: OfTask): Any =>
  payload(TaskResumedSchema, { containerId: e.containerId });
export const taskCheckpointed = (e: OfTask & { checkpoint: string }): Any =>
  payload(TaskCheckpointedSchema, { containerId: e.containerId, checkpoint: e.checkpoint });

function exited(e: Exited): Omit<Exited, "exitedAt"> & {
  exitedAt: ReturnType<typeof nanosToTimestamp>;
} {
  return {
    containerId: e.containerId,
    id: e.id,
    pid: e.pid,
    exitStatus: e.exitStatus,
    exitedAt: nanosToTimestamp(e.exitedAt),
  };
}

const registry = createRegistry(
  file_events_container,
  file_events_content,
  file_events_image,
  file_events_namespace,
  file_events_sandbox,
  file_events_snapshot,
  file_events_task,
);

/**
 * The field of a payload that a filter names below `event`, with the fields' names as in the
 * descriptions (`container_id`, `mediaType`). As upstream, numbers, times and lists are not to be
 * had; undefined too for a payload of a type that is not known, and for one that does not decode.
 */
export function eventField(event: Any, fieldpath: readonly string[]): string | undefined {
  const desc = registry.getMessage(event.typeUrl.slice(event.typeUrl.lastIndexOf("/") + 1));
  if (!desc) return undefined;
  const message = tryDecode(desc, event.value);
  return message && messageField(message, fieldpath);
}

function tryDecode(desc: DescMessage, bytes: Uint8Array): ReflectMessage | undefined {
  try {
    return reflect(desc, fromBinary(desc, bytes));
  } catch {
    // The decoder's errors have no class of their own; a payload nobody can read has no fields.
    return undefined;
  }
}

function messageField(message: ReflectMessage, fieldpath: readonly string[]): string | undefined {
  const [name, ...rest] = fieldpath;
  const field: DescField | undefined = message.fields.find((f) => f.name === name);
  if (!field) return undefined;
  switch (field.fieldKind) {
    case "message":
      if (field.message.typeName.startsWith("google.protobuf.")) return undefined;
      return message.isSet(field) ? messageField(message.get(field), rest) : undefined;
    case "map": {
      const value: unknown = message.get(field).get(rest.join("."));
      return typeof value === "string" ? value : undefined;
    }
    case "scalar": {
      const value: unknown = message.get(field);
      if (typeof value === "boolean") return String(value);
      return typeof value === "string" && value !== "" ? value : undefined;
    }
    default:
      return undefined;
  }
}
