import { findUnpackTarget, type LocalParts } from "#core/transfer/local.ts";
import type { UnpackRequest } from "#core/transfer/transfer.ts";
import { Unpacker, type UnpackerOptions } from "#core/unpack/unpacker.ts";
import type { Context } from "#pkg/context.ts";
import { invalidArgument } from "#pkg/errors.ts";
import { formatPlatformAll } from "#pkg/platform.ts";

/** Undefined where nothing is to be unpacked; throws `invalid-argument` where nothing of what is asked can be. */
export function openUnpacker(
  ctx: Context,
  parts: LocalParts,
  requests: readonly UnpackRequest[],
  hooks: Pick<UnpackerOptions, "fetch" | "progress" | "imageName">,
): Unpacker | undefined {
  if (requests.length === 0) return undefined;
  const targets = requests.flatMap((request) => {
    const target = findUnpackTarget(parts, request);
    if (target) return [target];
    const { platform, snapshotter } = request;
    const fields = { platform: formatPlatformAll(platform), snapshotter };
    ctx.logger.warn("unpack configuration not supported, skipping", fields);
    return [];
  });
  if (targets.length === 0) {
    throw invalidArgument("unable to initialize unpacker: no unpack platforms defined");
  }
  const { content, locks, unpackLimiter: limiter } = parts;
  return new Unpacker(ctx, { content, targets, locks, limiter, ...hooks });
}
