import { exportArchive } from "#core/images/export-archive.ts";
import type { LocalParts } from "#core/transfer/local.ts";
import { lookUpImages } from "#core/transfer/store-object.ts";
import type {
  ExportObject,
  ImportObject,
  StoreObject,
  TransferOptions,
} from "#core/transfer/transfer.ts";
import type { Context } from "#pkg/context.ts";
import { notImplemented } from "#pkg/errors.ts";
import { formatPlatformAll, hostPlatform } from "#pkg/platform.ts";
import { orderedPlatforms, strictPlatformMatcher } from "#pkg/platform-match.ts";

/** Writes images into an archive. Nothing but a whole archive is finished. */
export async function exportImages(
  ctx: Context,
  { content, images }: LocalParts,
  source: StoreObject,
  target: ExportObject,
  { progress }: TransferOptions,
): Promise<void> {
  progress?.({ event: "Exporting" });
  if (source.references.some(({ isPrefix }) => isPrefix)) {
    throw notImplemented("prefix lookup on export not implemented");
  }
  const found = await lookUpImages(ctx, images, source);
  const { platforms, allPlatforms } = target;
  const options = {
    platforms:
      platforms.length > 0 ? orderedPlatforms(platforms) : strictPlatformMatcher(hostPlatform()),
    allPlatforms,
    skipDockerManifest: target.skipCompatibilityManifest,
    skipNonDistributable: target.skipNonDistributable,
    onMissing: ({ platform }: { platform?: Parameters<typeof formatPlatformAll>[0] | undefined }) =>
      progress?.({
        event: `Left out ${platform ? formatPlatformAll(platform) : "a manifest"}: not all of it is here`,
      }),
  };
  await exportArchive(ctx, content, found, options, (bytes) => target.write(ctx, bytes));
  await target.finish(ctx);
  progress?.({ event: "Completed export" });
}

/** Sends an archive back as it came: for tests of the streams. */
export async function echo(
  ctx: Context,
  source: ImportObject,
  target: ExportObject,
): Promise<void> {
  for await (const chunk of source.read(ctx)) await target.write(ctx, chunk);
  await target.finish(ctx);
}
