import { Transfer } from "#api/services/transfer/v1/transfer_pb.ts";
import { anyFromWire } from "#core/streaming/convert.ts";
import type { StreamManager } from "#core/streaming/streaming.ts";
import type { Progress, TransferObject, Transferrer } from "#core/transfer/transfer.ts";
import type { Context } from "#pkg/context.ts";
import { CodedError, hasCode, invalidArgument, notImplemented, wrap } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { progressToAny, transferObjectOf } from "#plugins/services/transfer/convert.ts";
import { ProgressSender } from "#plugins/services/transfer/progress-sender.ts";

export interface TransferServiceOptions {
  /** Tried in this order: one that answers `not-implemented` hands on to the next. */
  readonly transferrers: readonly Transferrer[];
  readonly streams: StreamManager;
}

/** containerd.services.transfer.v1.Transfer */
export function transferService({ transferrers, streams }: TransferServiceOptions): Service {
  return serve(Transfer, {
    async transfer(ctx, { source, destination, options }) {
      const name = options?.progressStream ?? "";
      await using progress =
        name === "" ? undefined : new ProgressSender(ctx, streams.get(ctx, name), progressToAny);
      if (!source) throw invalidArgument("source is missing");
      if (!destination) throw invalidArgument("destination is missing");
      await using resources = new AsyncDisposableStack();
      const objects = { streams, resources };
      const from = transferObjectOf(ctx, objects, anyFromWire(source));
      const to = transferObjectOf(ctx, objects, anyFromWire(destination));
      const report = progress && ((step: Progress) => progress.send(step));
      const what = `method Transfer not implemented for ${source.typeUrl} to ${destination.typeUrl}`;
      if (!from || !to) throw new CodedError("not-implemented", what);
      const refusal = await first(ctx, transferrers, { from, to, report });
      if (refusal) throw wrap(what, refusal.error);
      return {};
    },
  });
}

interface Transferring {
  readonly from: TransferObject;
  readonly to: TransferObject;
  readonly report: ((progress: Progress) => void) | undefined;
}

/** Undefined when one of them has done it; otherwise what the last of them said. */
async function first(
  ctx: Context,
  transferrers: readonly Transferrer[],
  { from, to, report }: Transferring,
): Promise<{ readonly error: unknown } | undefined> {
  let refusal: { readonly error: unknown } = { error: notImplemented("there is no transferrer") };
  await using stack = new AsyncDisposableStack();
  // Nothing is left half open: the client of an export that failed is waiting for its stream to end.
  if (to.kind === "export") stack.defer(() => to.close());
  for (const transferrer of transferrers) {
    try {
      await transferrer.transfer(ctx, from, to, { progress: report });
      return undefined;
    } catch (error) {
      if (!hasCode(error, "not-implemented")) throw error;
      refusal = { error };
      ctx.logger.debug("transfer not implemented", { from: from.kind, to: to.kind, error });
    }
  }
  return refusal;
}
