import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ActivationInfo, ActivationInfoSchema } from "#api/types/mount_pb.ts";
import { mountMessage, mountOf } from "#core/mount/convert.ts";
import type { Activation } from "#core/mount/manager.ts";
import { CodedError } from "#pkg/errors.ts";
import { nanosToTimestamp, timestampToNanos } from "#pkg/time.ts";

export function activationMessage(
  activation: Activation,
): MessageInitShape<typeof ActivationInfoSchema> {
  return {
    name: activation.name,
    active: activation.active.map(({ mountedAt, mountPoint, data, ...mount }) => ({
      mount: mountMessage(mount),
      mountedAt: nanosToTimestamp(mountedAt),
      mountPoint,
      data: { ...data },
    })),
    system: activation.system.map(mountMessage),
    labels: { ...activation.labels },
  };
}

/** What is missing is the fault of the daemon that answered. */
export function activationOf(message: ActivationInfo | undefined): Activation {
  if (!message)
    throw new CodedError("internal", "the mounts service answered without an activation");
  return {
    name: message.name,
    active: message.active.map(({ mount, mountedAt, mountPoint, data }) => ({
      ...(mount ? mountOf(mount) : { type: "", source: "", target: "", options: [] }),
      mountedAt: mountedAt ? timestampToNanos(mountedAt) : 0n,
      mountPoint,
      data,
    })),
    system: message.system.map(mountOf),
    labels: message.labels,
  };
}
