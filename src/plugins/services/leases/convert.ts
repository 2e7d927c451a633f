import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { LeaseSchema, ResourceSchema } from "#api/services/leases/v1/leases_pb.ts";
import type { Lease, LeaseResource } from "#core/leases/leases.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { nanosToTimestamp } from "#pkg/time.ts";

export function leaseToWire(lease: Lease): MessageInitShape<typeof LeaseSchema> {
  const { id, labels, createdAt } = lease;
  return { id, labels: { ...labels }, createdAt: nanosToTimestamp(createdAt) };
}

export function resourceFromWire(
  resource: MessageShape<typeof ResourceSchema> | undefined,
): LeaseResource {
  if (!resource) throw invalidArgument("resource is required");
  return { id: resource.id, type: resource.type };
}
