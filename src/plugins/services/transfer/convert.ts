import type { MessageShape } from "@bufbuild/protobuf";
import type { Platform as PlatformMessage } from "#api/types/platform_pb.ts";
import type { ImageStoreSchema } from "#api/types/transfer/imagestore_pb.ts";
import { ImageStoreSchema as storeSchema } from "#api/types/transfer/imagestore_pb.ts";
import {
  ImageExportStreamSchema,
  ImageImportStreamSchema,
} from "#api/types/transfer/importexport_pb.ts";
import { ProgressSchema } from "#api/types/transfer/progress_pb.ts";
import {
  HTTPDebug,
  OCIRegistrySchema,
  type RegistryResolverSchema,
} from "#api/types/transfer/registry_pb.ts";
import { fromAny, isOfType, toAny } from "#core/streaming/convert.ts";
import type { StreamManager } from "#core/streaming/streaming.ts";
import { streamCredentials } from "#core/transfer/auth-convert.ts";
import { ByteSender, receiveBytes } from "#core/transfer/byte-stream.ts";
import type {
  ExportObject,
  ImportObject,
  Progress,
  RegistryObject,
  StoreObject,
  TransferObject,
} from "#core/transfer/transfer.ts";
import type { Any } from "#pkg/any.ts";
import type { Context } from "#pkg/context.ts";
import { assertLabels } from "#pkg/label.ts";
import type { Platform } from "#pkg/platform.ts";
import { TextSender } from "#plugins/services/transfer/text-sender.ts";

/** What objects of one transfer are made from, and released with. */
export interface Objects {
  readonly streams: StreamManager;
  readonly resources: AsyncDisposableStack;
}

/** What a client named as source or destination; undefined where the daemon knows nothing of that type. */
export function transferObjectOf(
  ctx: Context,
  { streams, resources }: Objects,
  any: Any,
): TransferObject | undefined {
  if (isOfType(any, storeSchema)) return storeOf(any);
  if (isOfType(any, ImageImportStreamSchema)) return importOf(ctx, streams, any);
  if (isOfType(any, ImageExportStreamSchema)) return exportOf(ctx, streams, any);
  if (isOfType(any, OCIRegistrySchema)) return registryOf(ctx, { streams, resources }, any);
  return undefined;
}

function storeOf(any: Any): StoreObject {
  const message = fromAny(any, storeSchema);
  assertLabels(message.labels);
  return {
    kind: "store",
    name: message.name,
    labels: message.labels,
    platforms: message.platforms.map(platformOf),
    allMetadata: message.allMetadata,
    manifestLimit: message.manifestLimit,
    references: message.extraReferences.map(
      ({ name, isPrefix, allowOverwrite, addDigest, skipNamedDigest }) => {
        return { name, isPrefix, allowOverwrite, addDigest, skipNamedDigest };
      },
    ),
    unpacks: message.unpacks.map(unpackOf),
  };
}

function unpackOf({
  platform,
  snapshotter,
}: MessageShape<typeof ImageStoreSchema>["unpacks"][number]): StoreObject["unpacks"][number] {
  return { platform: platform ? platformOf(platform) : { os: "", architecture: "" }, snapshotter };
}

function importOf(ctx: Context, streams: StreamManager, any: Any): ImportObject {
  const { stream: name, mediaType, forceCompress } = fromAny(any, ImageImportStreamSchema);
  const stream = streams.get(ctx, name);
  return {
    kind: "import",
    mediaType,
    forceCompress,
    read: (reading) => receiveBytes(reading, stream),
  };
}

function exportOf(ctx: Context, streams: StreamManager, any: Any): ExportObject {
  const message = fromAny(any, ImageExportStreamSchema);
  const sender = new ByteSender(streams.get(ctx, message.stream));
  return {
    kind: "export",
    mediaType: message.mediaType,
    platforms: message.platforms.map(platformOf),
    allPlatforms: message.allPlatforms,
    skipCompatibilityManifest: message.skipCompatibilityManifest,
    skipNonDistributable: message.skipNonDistributable,
    write: (writing, bytes) => sender.write(writing, bytes),
    finish: (finishing) => sender.finish(finishing),
    close: () => sender.close(),
  };
}

function registryOf(ctx: Context, { streams, resources }: Objects, any: Any): RegistryObject {
  const { reference, resolver } = fromAny(any, OCIRegistrySchema);
  const authStream = resolver?.authStream ?? "";
  return {
    kind: "registry",
    reference,
    headers: resolver?.headers ?? {},
    hostDir: resolver?.hostDir ?? "",
    defaultScheme: resolver?.defaultScheme ?? "",
    credentials:
      authStream === "" ? undefined : streamCredentials(streams.get(ctx, authStream), reference),
    httpDump: resolver && dumpOf(ctx, { streams, resources }, resolver),
    connectionTrace: resolver && traceOf(ctx, resolver),
  };
}

/** Into the daemon's log, as upstream's: the client's stream is for requests and answers. */
function traceOf(
  ctx: Context,
  { httpDebug }: MessageShape<typeof RegistryResolverSchema>,
): RegistryObject["connectionTrace"] {
  if (httpDebug !== HTTPDebug.TRACE && httpDebug !== HTTPDebug.BOTH) return undefined;
  return (event, fields) => ctx.logger.debug(event, fields);
}

function dumpOf(
  ctx: Context,
  { streams, resources }: Objects,
  { httpDebug, logsStream }: MessageShape<typeof RegistryResolverSchema>,
): RegistryObject["httpDump"] {
  if (httpDebug !== HTTPDebug.DEBUG && httpDebug !== HTTPDebug.BOTH) return undefined;
  if (logsStream === "") return (text) => ctx.logger.info(text);
  const sender = resources.use(new TextSender(ctx, streams.get(ctx, logsStream)));
  return (text) => sender.send(text);
}

function platformOf(message: PlatformMessage): Platform {
  const { os, architecture, variant, osVersion, osFeatures } = message;
  return {
    os,
    architecture,
    ...(variant !== "" && { variant }),
    ...(osVersion !== "" && { osVersion }),
    ...(osFeatures.length > 0 && { osFeatures }),
  };
}

export function progressToAny(progress: Progress): Any {
  const { event, name = "", parents = [], doneBytes = 0, totalBytes = 0, descriptor } = progress;
  return toAny(ProgressSchema, {
    event,
    name,
    parents: [...parents],
    progress: BigInt(doneBytes),
    total: BigInt(totalBytes),
    ...(descriptor && {
      desc: {
        mediaType: descriptor.mediaType,
        digest: descriptor.digest,
        size: BigInt(descriptor.sizeBytes),
        annotations: { ...descriptor.annotations },
      },
    }),
  });
}
