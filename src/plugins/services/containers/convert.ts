import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { ContainerSchema } from "#api/services/containers/v1/containers_pb.ts";
import type { Container, ContainerInput } from "#core/containers/containers.ts";
import type { Any } from "#pkg/any.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { nanosToTimestamp } from "#pkg/time.ts";

export function containerToWire(container: Container): MessageInitShape<typeof ContainerSchema> {
  const { runtime, spec } = container;
  return {
    id: container.id,
    labels: { ...container.labels },
    image: container.image,
    runtime: { name: runtime.name, ...(runtime.options && { options: { ...runtime.options } }) },
    ...(spec && { spec: { ...spec } }),
    snapshotter: container.snapshotter,
    snapshotKey: container.snapshotKey,
    createdAt: nanosToTimestamp(container.createdAt),
    updatedAt: nanosToTimestamp(container.updatedAt),
    extensions: Object.fromEntries(
      Object.entries(container.extensions).map(([key, value]) => [key, { ...value }]),
    ),
    sandbox: container.sandbox,
  };
}

export function containerFromWire(
  container: MessageShape<typeof ContainerSchema> | undefined,
): ContainerInput {
  if (!container) throw invalidArgument("Container required");
  const { runtime } = container;
  return {
    id: container.id,
    labels: container.labels,
    image: container.image,
    runtime: { name: runtime?.name ?? "", options: anyFromWire(runtime?.options) },
    spec: anyFromWire(container.spec),
    snapshotter: container.snapshotter,
    snapshotKey: container.snapshotKey,
    extensions: Object.fromEntries(
      Object.entries(container.extensions).map(([key, { typeUrl, value }]) => [
        key,
        { typeUrl, value },
      ]),
    ),
    sandbox: container.sandbox,
  };
}

function anyFromWire(any: Any | undefined): Any | undefined {
  return any && { typeUrl: any.typeUrl, value: any.value };
}
