import { Diff } from "#api/services/diff/v1/diff_pb.ts";
import type { Differ } from "#core/diff/diff.ts";
import { mountOf } from "#core/mount/convert.ts";
import { hasCode, notImplemented } from "#pkg/errors.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { timestampToNanos } from "#pkg/time.ts";
import { descriptorMessage, descriptorOf } from "#core/diff/convert.ts";

export interface DiffServiceOptions {
  /** Tried in this order: one that answers `not-implemented` hands on to the next. */
  readonly differs: readonly Differ[];
  /** Syncs for every client, not only for those that ask. */
  readonly syncFs: boolean;
}

/** containerd.services.diff.v1.Diff */
export function diffServiceOf({ differs, syncFs }: DiffServiceOptions): Service {
  const first = async <T>(use: (differ: Differ) => Promise<T>): Promise<T> => {
    let refusal: unknown = notImplemented("no differ");
    for (const differ of differs) {
      try {
        return await use(differ);
      } catch (error) {
        if (!hasCode(error, "not-implemented")) throw error;
        refusal = error;
      }
    }
    throw refusal;
  };
  return serve(Diff, {
    async apply(ctx, request) {
      const layer = descriptorOf(request.diff, "diff");
      const mounts = request.mounts.map(mountOf);
      const options = { payloads: request.payloads, syncFs: request.syncFs || syncFs };
      const applied = await first((differ) => differ.apply(ctx, layer, mounts, options));
      return { applied: descriptorMessage(applied) };
    },
    async diff(ctx, request) {
      const [left, right] = [request.left.map(mountOf), request.right.map(mountOf)];
      const { mediaType, ref, labels, sourceDateEpoch } = request;
      const options = {
        mediaType: mediaType === "" ? undefined : mediaType,
        ref: ref === "" ? undefined : ref,
        labels,
        sourceDateEpoch: sourceDateEpoch && timestampToNanos(sourceDateEpoch),
      };
      const diff = await first((differ) => differ.compare(ctx, left, right, options));
      return { diff: descriptorMessage(diff) };
    },
  });
}
