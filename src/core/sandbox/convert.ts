import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Metric as MetricMessage } from "#api/types/metrics_pb.ts";
import type { Platform as PlatformMessage } from "#api/types/platform_pb.ts";
import type { Sandbox as SandboxMessage, SandboxSchema } from "#api/types/sandbox_pb.ts";
import type {
  Sandbox,
  SandboxInput,
  SandboxMetric,
  SandboxPlatform,
} from "#core/sandbox/sandbox.ts";
import type { Any } from "#pkg/any.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { nanosToTimestamp, timestampToNanos, type UnixNanos } from "#pkg/time.ts";

export function sandboxMessage(
  sandbox: SandboxInput & Partial<Sandbox>,
): MessageInitShape<typeof SandboxSchema> {
  const { runtime, spec, createdAt, updatedAt } = sandbox;
  return {
    sandboxId: sandbox.id,
    runtime: { name: runtime.name, ...(runtime.options && { options: { ...runtime.options } }) },
    ...(spec && { spec: { ...spec } }),
    labels: { ...sandbox.labels },
    ...(createdAt !== undefined && { createdAt: nanosToTimestamp(createdAt) }),
    ...(updatedAt !== undefined && { updatedAt: nanosToTimestamp(updatedAt) }),
    extensions: Object.fromEntries(
      Object.entries(sandbox.extensions).map(([key, value]) => [key, { ...value }]),
    ),
    sandboxer: sandbox.sandboxer,
  };
}

/** Throws `invalid-argument` when there is none. */
export function sandboxOf(message: SandboxMessage | undefined): Sandbox {
  if (!message) throw invalidArgument("sandbox can not be nil");
  const { runtime, createdAt, updatedAt } = message;
  return {
    id: message.sandboxId,
    labels: message.labels,
    runtime: { name: runtime?.name ?? "", options: anyOf(runtime?.options) },
    spec: anyOf(message.spec),
    sandboxer: message.sandboxer,
    createdAt: timeOf(createdAt) ?? 0n,
    updatedAt: timeOf(updatedAt) ?? 0n,
    extensions: Object.fromEntries(
      Object.entries(message.extensions).map(([key, { typeUrl, value }]) => [
        key,
        { typeUrl, value },
      ]),
    ),
  };
}

export function anyOf(any: Any | undefined): Any | undefined {
  return any && { typeUrl: any.typeUrl, value: any.value };
}

export function timeOf(
  time: { readonly seconds: bigint; readonly nanos: number } | undefined,
): UnixNanos | undefined {
  return time && timestampToNanos(time);
}

export function platformOf(message: PlatformMessage | undefined): SandboxPlatform {
  const { os = "", architecture = "", variant = "" } = message ?? {};
  return { os, architecture, variant };
}

export function metricOf(message: MetricMessage | undefined): SandboxMetric | undefined {
  if (!message) return undefined;
  const { id, timestamp, data } = message;
  return { id, timestamp: timeOf(timestamp), data: anyOf(data) };
}
