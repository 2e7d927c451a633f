import {
  HealthCheckResponse_ServingStatus as Status,
  Health,
} from "#api/grpc/health/v1/health_pb.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";

/** grpc.health.v1.Health: the server as a whole serves, no service has a status of its own. */
export function healthService(): Service {
  return serve(Health, {
    async check(_ctx, { service }) {
      if (service !== "") throw new CodedError("not-found", "unknown service");
      return { status: Status.SERVING };
    },
    async *watch(ctx, { service }) {
      yield { status: service === "" ? Status.SERVING : Status.SERVICE_UNKNOWN };
      await ended(ctx);
      throw new CodedError("canceled", "Stream has ended.");
    },
  });
}

async function ended({ signal }: Context): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}
