import { Task } from "#api/runtime/task/v3/shim_pb.ts";
import { Context } from "#pkg/context.ts";
import { createClient } from "#pkg/rpc/client.ts";
import { TtrpcTransport } from "#pkg/rpc/ttrpc/transport.ts";
import { socketPath } from "#shim/socket-address.ts";

const joinTimeoutMs = 5_000;

/**
 * Asks the supervisor at an address to stay until the container has been created there; gives its
 * pid.
 *
 * Throws `unavailable` when it is ending or gone.
 */
export async function joinGroup(address: string, id: string): Promise<number> {
  const ctx = Context.background().withTimeout(joinTimeoutMs);
  await using transport = await TtrpcTransport.connect(ctx, socketPath(address));
  const { shimPid } = await createClient(Task, transport).connect(ctx, { id });
  return shimPid;
}
