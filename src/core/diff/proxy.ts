import { Diff } from "#api/services/diff/v1/diff_pb.ts";
import { descriptorMessage, descriptorOf } from "#core/diff/convert.ts";
import type { ApplyOptions, CompareOptions, Differ } from "#core/diff/diff.ts";
import { mountMessage } from "#core/mount/convert.ts";
import type { Mount } from "#core/mount/mount.ts";
import type { Context } from "#pkg/context.ts";
import type { Descriptor } from "#pkg/descriptor.ts";
import { CodedError, messageOf } from "#pkg/errors.ts";
import { createClient } from "#pkg/rpc/client.ts";
import type { Client, Transport } from "#pkg/rpc/service.ts";
import { nanosToTimestamp } from "#pkg/time.ts";
import { settledOrAborted } from "#pkg/until.ts";

/** A differ behind the gRPC service of another process. Does not own the connection. */
export class GrpcDiffer implements Differ {
  readonly #client: Client<typeof Diff>;

  constructor(transport: Transport) {
    this.#client = createClient(Diff, transport);
  }

  async apply(
    ctx: Context,
    layer: Descriptor,
    mounts: readonly Mount[],
    options: ApplyOptions = {},
  ): Promise<Descriptor> {
    // The other process finds it in the content store only.
    if (options.arriving) await settledOrAborted(options.arriving.stored, ctx);
    const { applied } = await this.#client.apply(ctx, {
      diff: descriptorMessage(layer),
      mounts: mounts.map(mountMessage),
      payloads: { ...options.payloads },
      syncFs: options.syncFs ?? false,
    });
    return given(applied, "applied");
  }

  async compare(
    ctx: Context,
    lower: readonly Mount[],
    upper: readonly Mount[],
    options: CompareOptions = {},
  ): Promise<Descriptor> {
    const { mediaType = "", ref = "", labels = {}, sourceDateEpoch } = options;
    const { diff } = await this.#client.diff(ctx, {
      left: lower.map(mountMessage),
      right: upper.map(mountMessage),
      mediaType,
      ref,
      labels: { ...labels },
      ...(sourceDateEpoch !== undefined && { sourceDateEpoch: nanosToTimestamp(sourceDateEpoch) }),
    });
    return given(diff, "diff");
  }
}

/** What does not parse here is the other process's fault, not the caller's. */
function given(message: Parameters<typeof descriptorOf>[0], field: string): Descriptor {
  try {
    return descriptorOf(message, field);
  } catch (cause) {
    const text = `the diff service answered with a bad descriptor: ${messageOf(cause)}`;
    throw new CodedError("internal", text, { cause });
  }
}
